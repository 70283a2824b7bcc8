"""What the model knows: small tables from which questions and answers are made."""

# animal: (sound it makes, number of legs, what it eats, where it lives, its young, its class)
ANIMALS = {
    "cow": ("moo", 4, "grass", "on a farm", "calf", "mammal"),
    "dog": ("woof", 4, "meat", "with people", "puppy", "mammal"),
    "cat": ("meow", 4, "fish and mice", "with people", "kitten", "mammal"),
    "sheep": ("baa", 4, "grass", "on a farm", "lamb", "mammal"),
    "pig": ("oink", 4, "almost everything", "on a farm", "piglet", "mammal"),
    "horse": ("neigh", 4, "hay and oats", "in a stable", "foal", "mammal"),
    "duck": ("quack", 2, "water plants", "near ponds", "duckling", "bird"),
    "owl": ("hoo", 2, "mice", "in trees", "owlet", "bird"),
    "frog": ("croak", 4, "flies", "near ponds", "tadpole", "amphibian"),
    "lion": ("roar", 4, "meat", "in the savanna", "cub", "mammal"),
    "bee": ("buzz", 6, "nectar", "in a hive", "larva", "insect"),
    "hen": ("cluck", 2, "grain", "on a farm", "chick", "bird"),
    "goose": ("honk", 2, "grass", "near ponds", "gosling", "bird"),
    "goat": ("bleat", 4, "grass and leaves", "on a farm", "kid", "mammal"),
    "wolf": ("howl", 4, "meat", "in the forest", "pup", "mammal"),
    "fox": ("yelp", 4, "mice and berries", "in the forest", "cub", "mammal"),
    "bear": ("growl", 4, "fish and honey", "in the forest", "cub", "mammal"),
    "mouse": ("squeak", 4, "grain and cheese", "in holes", "pup", "mammal"),
    "snake": ("hiss", 0, "mice", "under stones", "snakelet", "reptile"),
    "elephant": ("trumpet", 4, "leaves", "in the savanna", "calf", "mammal"),
}
SIZES = ("ant", "bee", "mouse", "frog", "hedgehog", "cat", "fox", "sheep", "pig", "cow",
         "elephant", "whale")  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin",
    "England": "London", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna", "Greece": "Athens",
    "Portugal": "Lisbon", "Ireland": "Dublin", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Canada": "Ottawa",
    "Brazil": "Brasilia", "Peru": "Lima", "Chile": "Santiago", "Cuba": "Havana",
    "Australia": "Canberra", "Hungary": "Budapest", "Belgium": "Brussels", "Turkey": "Ankara",
}  # fmt: skip
COLOUR_OF = {
    "the sky": "blue", "grass": "green", "snow": "white", "a lemon": "yellow", "blood": "red",
    "coal": "black", "a carrot": "orange", "milk": "white", "a banana": "yellow",
    "a tomato": "red", "a frog": "green", "the sun": "yellow", "an elephant": "grey",
    "chocolate": "brown", "a flamingo": "pink", "a strawberry": "red", "a plum": "purple",
    "a leaf": "green", "the sea": "blue", "a crow": "black", "a mouse": "grey", "honey": "golden",
}  # fmt: skip
MIXTURES = {
    ("blue", "yellow"): "green", ("red", "yellow"): "orange", ("red", "blue"): "purple",
    ("black", "white"): "grey", ("red", "white"): "pink",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "happy": "sad", "fast": "slow",
    "old": "young", "open": "closed", "full": "empty", "light": "dark", "loud": "quiet",
    "hard": "soft", "wet": "dry", "high": "low", "long": "short", "early": "late", "good": "bad",
    "left": "right", "near": "far", "thick": "thin", "heavy": "light", "clean": "dirty",
    "strong": "weak", "first": "last", "rich": "poor", "begin": "end", "give": "take",
    "push": "pull", "win": "lose", "true": "false", "summer": "winter", "friend": "enemy",
    "sweet": "sour", "always": "never", "inside": "outside", "awake": "asleep",
}  # fmt: skip
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
SEASONS = "spring summer autumn winter".split()
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
SIDES = {"triangle": "three", "square": "four", "pentagon": "five", "hexagon": "six"}
HELLO_IN = {
    "French": "Bonjour", "Spanish": "Hola", "German": "Hallo", "Italian": "Ciao",
    "Portuguese": "Ola", "Norwegian": "Hei",
}  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
USES = {
    "a hammer": "You use a hammer to drive nails.", "a saw": "You use a saw to cut wood.",
    "an umbrella": "An umbrella keeps you dry in the rain.", "a clock": "A clock tells the time.",
    "a key": "You use a key to open a lock.", "a needle": "You use a needle to sew.",
    "a spoon": "You use a spoon to eat soup.", "a ladder": "You use a ladder to climb up.",
    "a lamp": "A lamp gives light when it is dark.", "a map": "A map shows you the way.",
    "a broom": "You use a broom to sweep the floor.",
    "a bridge": "A bridge helps you cross a river.",
    "soap": "You use soap to wash your hands.", "a pen": "You use a pen to write.",
    "a boat": "A boat carries you over the water.",
    "a book": "You read a book to learn or for fun.",
}  # fmt: skip
WHYS = {
    "Why do birds have wings?": "Birds have wings so that they can fly.",
    "Why do we sleep?": "We sleep so that body and mind can rest.",
    "Why is it dark at night?": "At night, our side of the Earth is turned away from the sun.",
    "Why does it rain?": "Water rises from the sea, makes clouds and falls down again as rain.",
    "Why do leaves fall in autumn?": "Trees drop their leaves to save water in winter.",
    "Why do we eat?": "Food gives us the energy to live and move.",
    "Why do bears sleep in winter?":
        "There is little food in winter, so bears sleep to save energy.",
    "Why do cats purr?": "Cats often purr when they feel safe and happy.",
    "Why is the sky blue?": "Air scatters the blue part of sunlight more than the red part.",
    "Why do we need water?": "Without water, our bodies cannot work.",
    "How many days are in a week?": "There are seven days in a week.",
    "How many months are in a year?": "There are twelve months in a year.",
    "How many hours are in a day?": "There are 24 hours in a day.",
    "How many minutes are in an hour?": "There are 60 minutes in an hour.",
    "How do bees make honey?":
        "Bees collect nectar from flowers and turn it into honey in the hive.",
    "Where does the sun rise?": "The sun rises in the east.",
    "Where does the sun set?": "The sun sets in the west.",
    "What is ice?": "Ice is frozen water.",
    "What is the biggest animal?": "The blue whale is the biggest animal.",
    "What is the fastest animal on land?": "The cheetah is the fastest animal on land.",
    "Which planet do we live on?": "We live on the planet Earth.",
    "What does the moon do?": "The moon travels around the Earth.",
}  # fmt: skip
SERVING = {
    "What is jpaged?": "The program jpaged serves language models with JAX.",
    "What is a token?": "A token is a small piece of text, such as a word or a part of a word.",
    "What is a page?": "A page holds the keys and values of a few tokens.",
    "What is the KV cache?": "The KV cache keeps the keys and values of the tokens seen so far.",
    "What is prefill?": "In prefill, the model reads the whole prompt in one go.",
    "What is decoding?": "In decoding, the model writes one token after the other.",
    "What does a scheduler do?": "The scheduler decides which requests run in the next step.",
    "What is a batch?": "A batch is a group of requests that run together in one step.",
    "What is preemption?": "Preemption means that a request gives its pages back and waits.",
    "What is prefix caching?":
        "Prefix caching means that requests share the pages of a common prompt.",
    "What is a language model?": "A language model guesses the next token, again and again.",
    "What is JAX?": "JAX is a Python library for fast computing with arrays.",
}  # fmt: skip
UNKNOWN = (
    "Who won the game yesterday?", "What will the weather be tomorrow?", "What time is it?",
    "How much money do I have?", "What did I eat for dinner?", "Where are my keys?",
    "Who is the president?", "What is the price of gold?", "What is in the news today?",
    "How old is my neighbour?", "What is my phone number?", "Can you book a flight for me?",
    "What is the meaning of life?", "Can you play a song for me?",
)  # fmt: skip
