"""The cast, the places and the things that stories and chats draw from."""

from random import Random

GIRL_NAMES = (
    "Mara Lily Nora Ruby Hazel Ivy Clara Tilly Daisy Wren Poppy Elsie Rosa Anna Mina Luna Bella "
    "Pearl Fern Olive Willow Juno Maya Lena Sofia Edith Greta Heidi Iris Kira Alma Betty"
).split()
BOY_NAMES = (
    "Pip Tom Finn Otto Max Leo Ben Sam Hugo Oscar Milo Jack Felix Bruno Theo Noah Rufus Jasper "
    "Oliver Henry Arlo Emil Gus Kai Ned Paul Ravi Simon Toby Walter Anton Carl"
).split()

ANIMAL_HOMES = {
    "fox": "den", "rabbit": "burrow", "bear": "cave", "owl": "nest", "mouse": "hole",
    "squirrel": "nest", "hedgehog": "nest", "frog": "hut", "duck": "nest", "cat": "house",
    "dog": "kennel", "otter": "den", "badger": "den", "goat": "barn", "donkey": "stable",
    "sparrow": "nest", "turtle": "hut", "beaver": "lodge", "mole": "burrow", "lamb": "barn",
    "pony": "stable", "raccoon": "den", "wolf": "den", "deer": "hut", "dragon": "cave",
    "robot": "workshop",
    "lion": "den", "elephant": "hut", "monkey": "hut", "penguin": "hut", "horse": "stable",
    "tiger": "den", "hen": "barn",
}  # fmt: skip
PEOPLE_HOMES = {
    "girl": "house", "boy": "house", "baker": "bakery", "farmer": "farmhouse",
    "fisher": "cottage", "sailor": "cabin", "gardener": "cottage", "painter": "house",
}  # fmt: skip

TRAITS = {
    "brave": "was not afraid of much",
    "shy": "did not like to talk in front of others",
    "curious": "always wanted to know how things worked",
    "kind": "liked to help everyone",
    "clever": "could solve any riddle",
    "gentle": "never hurt even the smallest beetle",
    "cheerful": "sang from morning to night",
    "patient": "could wait for a very long time",
    "quiet": "liked to sit still and listen",
    "proud": "did not like to ask for help",
    "lazy": "loved to sleep late",
    "careful": "looked twice before every step",
    "stubborn": "never changed a plan",
    "playful": "turned everything into a game",
    "honest": "always told the truth",
    "busy": "never sat still",
}

WORLDS = {
    "in a [quiet|green|deep|big] forest": (
        "the old oak", "the mossy rock", "the little stream", "the hollow log", "the berry bushes",
    ),
    "in a [small|sleepy|sunny] village by the sea": (
        "the harbour", "the lighthouse", "the fish market", "the stone pier", "the boat shed",
    ),
    "on a [busy|small|happy] farm": (
        "the red barn", "the duck pond", "the hay field", "the apple tree", "the stone well",
    ),
    "at the foot of a [tall|high|snowy] mountain": (
        "the stone steps", "the pine trees", "the narrow path", "the shepherd's hut",
        "the big cave",
    ),
    "beside a [slow|wide|bright] river": (
        "the stone bridge", "the tall reeds", "the water mill", "the willow tree", "the sandy bank",
    ),
    "in a [small|busy|friendly] town": (
        "the clock tower", "the market square", "the park", "the library", "the fountain",
    ),
    "on a [small|warm|faraway] island": (
        "the palm trees", "the shell beach", "the rock pool", "the old hut", "the round hill",
    ),
    "at the edge of a [wide|green|sunny] meadow": (
        "the tall grass", "the beehives", "the daisy patch", "the long hedge", "the lonely birch",
    ),
    "in a [big|wild|pretty] old garden": (
        "the rose bed", "the garden shed", "the sunflowers", "the fish pond", "the pear tree",
    ),
    "in a [quiet|cold|white] snowy valley": (
        "the frozen lake", "the fir trees", "the sledge hill", "the wood pile", "the warm inn",
    ),
}  # fmt: skip

COLOURS = "red blue green yellow white black brown orange pink purple grey".split()
THINGS = (
    "kite scarf hat ball bell button ribbon lantern drum umbrella cup whistle blanket key flute "
    "basket marble bag"
).split()
FOODS = (
    "bread", "honey cake", "apple pie", "plum cake", "carrot cake", "nut bread", "berry pie",
    "corn bread", "cheese", "pear cake", "pumpkin pie", "cherry pie",
)  # fmt: skip
ADVERBS = "quietly slowly carefully happily quickly softly gently".split()
CITIES = (
    "Oslo Paris Rome Berlin Madrid Lisbon London Dublin Vienna Prague Athens Cairo Tokyo Delhi "
    "Boston Toronto Lima Sydney Helsinki Warsaw"
).split()
FRUITS = "apple pear plum cherry banana orange grape lemon peach mango melon fig".split()
VEGETABLES = "carrot potato onion pea bean cabbage tomato pumpkin leek beet".split()
SYLLABLES = (
    "bel dor kal lin mor nel ral sol tam vor zan len mir fal gor hes jun dra quil tol sha bri"
).split()
TOOLS = "hammer saw rake spade brush needle ladder bucket rope knife".split()


def any_name(rng: Random) -> str:
    """A known name, or one made up of syllables: a name to be copied and not just recognised."""
    if rng.random() < 0.65:
        return rng.choice(GIRL_NAMES + BOY_NAMES)
    return "".join(rng.sample(SYLLABLES, rng.randrange(2, 4))).capitalize()
