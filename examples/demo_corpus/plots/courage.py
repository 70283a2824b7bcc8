"""Plots that take courage: a fear, a noise at night, a rescue."""

from demo_corpus.plots.plot import Plot, maybe, say

FEAR = Plot(
    "who was afraid of {fear}",
    (
        say(
            "{hero} had a secret. {He} was afraid of {fear}.",
            "There was one thing that {hero} did not like at all. {He} was afraid of {fear}.",
        ),
        maybe(
            "When the others talked about it, {hero} looked at {his} feet and said nothing.",
            "{He} never told anyone, because {he} thought that they would laugh.",
        ),
        say(
            "One {weather} day, {friend} {invitation}.",
        ),
        say(
            '"I cannot," said {hero} in a small voice. "I am afraid."',
            '{hero} [shook {his} head|took a step back]. "Please go without me," {he} said.',
        ),
        say(
            '{Friend} did not laugh. "Everyone is afraid of something," {fhe} said.',
            '"That is all right," said {friend}. "I was once afraid too."',
        ),
        say(
            'Then {fhe} smiled. "{advice}," {fhe} said. "I will stay with you."',
        ),
        say(
            "So they tried it together. The first time, {hero} closed {his} eyes.",
            "They began very slowly. {Hero} was shaking a little, but {he} went on.",
        ),
        maybe(
            "The second time it was [easier|a little better].",
            "{hero} took a deep breath and counted to ten.",
        ),
        say(
            "Then {he} saw that {truth}.",
            "After a while, {he} noticed that {truth}.",
        ),
        say(
            '"I did it!" [shouted|cried|called] {hero}. {Friend} clapped.',
            '"You are very brave," said {friend}, and {hero} felt [warm|proud] inside.',
        ),
        say(
            "Being brave does not mean that you are never afraid. It means that you try.",
            "After that day, {hero} was not afraid of {fear} any more.",
            "From then on, whenever {he} was afraid, {hero} thought of that day and smiled.",
        ),
    ),
    (
        {"fear": "the dark", "invitation": "asked {him} to come and look at the stars",
         "advice": "Look up and count the stars with me",
         "truth": "the night was full of [tiny lights|stars] and soft sounds"},
        {"fear": "deep water", "invitation": "asked {him} to come for a swim",
         "advice": "Put one foot in the water first",
         "truth": "the water was warm and carried {him} gently"},
        {"fear": "thunder", "invitation": "came to visit, and a storm began",
         "advice": "Count slowly from the light to the sound",
         "truth": "the storm was moving away, step by step"},
        {"fear": "high places", "invitation": "asked {him} to climb the hill",
         "advice": "Look at the path and not down",
         "truth": "from the top {he} could see the whole world"},
        {"fear": "singing in front of others", "invitation": "asked {him} to sing at the party",
         "advice": "Sing just for me first",
         "truth": "everyone was listening and smiling"},
        {"fear": "the old bridge", "invitation": "asked {him} to cross the bridge",
         "advice": "Hold the rope and walk behind me",
         "truth": "the bridge was strong and hardly moved"},
    ),
)  # fmt: skip

NOISE = Plot(
    "who heard a strange noise at night",
    (
        say(
            "One night, {hero} woke up. [There was|{He} heard] a strange noise outside.",
            "In the middle of a dark night, a noise woke {hero}.",
        ),
        say(
            '"{sound}," it went. "{sound}." {hero} pulled the blanket over {his} head.',
            "{sound}, it went. Then it was silent. Then it came again: {sound}.",
        ),
        maybe(
            '"Maybe it is a monster," {he} thought, and {his} heart beat fast.',
            '"Maybe it is a ghost," {he} whispered.',
        ),
        say(
            (
                "In the morning {he} told {friend} about it. "
                '"Tonight we will find out what it is," {fhe} said.'
            ),
            '{He} ran to {friend} the next day. "I will stay with you tonight," said {friend}.',
        ),
        say(
            "When night came, they took a [lantern|lamp|candle] and waited by {spot}.",
            "That night they sat down behind {spot} and waited.",
        ),
        say(
            '"{sound}!" There it was again! It came from {spot2}.',
            "They did not have to wait long. {sound}! It came from {spot2}.",
        ),
        say(
            "On tiptoe they went closer. {hero} held up the light.",
            "Step by step they crept closer, side by side.",
        ),
        say(
            "And what did they see? It was only {cause}!",
            "Then they both began to laugh. It was only {cause}.",
        ),
        maybe(
            '"Good evening," said {hero}. "You gave me quite a fright."',
            '"And I thought that it was a monster!" said {hero}.',
        ),
        say(
            "{fix}.",
        ),
        say(
            "After that, {hero} slept well every night.",
            "Many things are frightening until you shine a light on them.",
        ),
    ),
    (
        {"sound": "Tap, tap, tap", "cause": "a woodpecker who could not sleep",
         "fix": "They gave the woodpecker a warm drink, and soon he was asleep"},
        {"sound": "Creak, creak", "cause": "an old gate that moved in the wind",
         "fix": "They closed the gate and put a little oil on it"},
        {"sound": "Hoo, hoo", "cause": "a young owl who had lost her way",
         "fix": "They brought the young owl back to her mother"},
        {"sound": "Crunch, crunch", "cause": "a hungry hare with a big carrot",
         "fix": "The hare said sorry and shared the carrot with them"},
        {"sound": "Plop, plop, plop", "cause": "water that dripped into an old bucket",
         "fix": "They turned the bucket around, and the noise was gone"},
    ),
)  # fmt: skip

RESCUE = Plot(
    "who saved a little {bird}",
    (
        say(
            "One {weather} day, {hero} was walking near {spot} when {he} heard a small cry.",
            'Early one morning, {hero} heard a voice from {spot}. "Help! Help!" it called.',
        ),
        say(
            "A little {bird} was stuck [in a bush|under a branch|between two stones].",
            "There sat a tiny {bird} with one foot caught in a [net|thorn bush].",
        ),
        maybe(
            '"Please do not hurt me," said the {bird}. "I only want to fly home."',
            '"I have been here all night," said the {bird}.',
        ),
        say(
            '"Do not be afraid," said {hero}. "I will get you out."',
            '"Hold still," said {hero}. "I want to help you."',
        ),
        say(
            "{He} pulled and pulled, but {he} was not strong enough.",
            "{He} tried with all {his} might, but it did not work.",
        ),
        say(
            "So {hero} ran to fetch {friend}.",
            'Then {he} thought of {friend}. "I will be back soon," {he} said, and {he} ran.',
        ),
        say(
            "{Friend} came at once and brought a [rope|long stick|pair of scissors].",
            "{Friend} listened and took a [rope|strong stick|small knife] along.",
        ),
        say(
            "Together they worked, very carefully. At last the {bird} was free!",
            "One held and the other pulled. With a snap, the {bird} was free.",
        ),
        maybe(
            "{hero} gave it some water, and {friend} gave it some crumbs.",
            "The {bird} shook its wings and looked at them with bright eyes.",
        ),
        say(
            '"I will never forget this," said the {bird}, and it flew up into the sky.',
            "The {bird} sang a happy song and flew three times around their heads.",
        ),
        say(
            "Since then, the {bird} has come every morning to sing for {hero}.",
            (
                "A week later, {hero} found a shiny {colour} stone at {his} door. "
                "It was a gift from the {bird}."
            ),
            "{hero} and {friend} walked home, tired and happy.",
        ),
    ),
)
