"""Plots that try a friendship: sharing, a quarrel, telling the truth."""

from demo_corpus.plots.plot import Plot, maybe, say

SHARE = Plot(
    "who learned to share",
    (
        say(
            "One {weather} morning, {hero} made some {food}. It smelled [wonderful|so good].",
            "One day, {hero} found some {food} at {his} door. It smelled [wonderful|so good].",
        ),
        say(
            '"This is all for me," {he} said, and {he} sat down by {spot} to eat.',
            "{He} carried it to {spot}, where nobody could see {him}.",
        ),
        say(
            'Just then {friend} came by. "I have not eaten all day," {fhe} said.',
            'Soon {friend} came along the path. "That smells good," {fhe} said. "I am so hungry."',
        ),
        say(
            '{hero} held the {food} tight. "There is not enough for two," {he} said.',
            '"I am sorry," said {hero}. "I need it all."',
        ),
        say(
            "{Friend} nodded sadly and walked away.",
            '"I see," said {friend}, and {fhe} went away without another word.',
        ),
        maybe(
            "{hero} began to eat. But the {food} did not taste as good as before.",
            "{hero} took a bite, but somehow {he} was not happy.",
        ),
        say(
            "Then {hero} remembered how [often|much] {friend} had helped {him}.",
            "Then {hero} remembered the cold winter when {friend} had given {him} {ffood}.",
        ),
        say(
            'So {he} jumped up and ran after {fhim}. "Wait!" {he} called. "Please come back!"',
            (
                'At once {hero} ran as fast as {he} could. "{friend}!" {he} called. '
                '"Come and eat with me!"'
            ),
        ),
        say(
            "They sat down by {spot2} and shared the {food}. There was enough for both.",
            "They ate together, and they talked and laughed until the sun went down.",
        ),
        say(
            '"It tastes much better now," said {hero}.',
            '"Thank you," said {friend}. "Tomorrow I will bring {ffood} for us both."',
        ),
        say(
            "And {hero} learned that good things are better when they are shared.",
            "From that day on, {hero} always kept a piece for a friend.",
        ),
    ),
    tuple({"ffood": food} for food in ("nuts", "soup", "sweet pears", "fresh bread", "berries")),
)

QUARREL = Plot(
    "who had a quarrel with a friend",
    (
        say(
            "One {weather} day, {hero} and {friend} found a {thing} near {spot}.",
            "One morning, a {thing} was lying on the path by {spot}.",
        ),
        say(
            '"I saw it first," said {hero}. "No, I saw it first," said {friend}.',
            '"It is mine!" said {friend}. "No, it is mine!" said {hero}.',
        ),
        say(
            "They pulled at it from both sides until it tore in two.",
            "They grew louder and louder, and at last they went home in anger.",
        ),
        maybe(
            "The next day they did not speak to each other. {hero} played alone, and it was dull.",
            "For two days {hero} stayed in {his} {home}. It was very quiet there.",
        ),
        say(
            "Then a big storm came. The wind blew hard and the rain fell for hours.",
            "That night it began to rain, and the water rose higher and higher.",
        ),
        say(
            "Water ran into the {home} of {hero}. {He} could not stop it alone.",
            "A heavy branch fell in front of the {home} of {hero}, and {he} could not get out.",
        ),
        say(
            'Suddenly {he} heard a voice. It was {friend}! "I have come to help," {fhe} called.',
            "Then somebody came through the rain. It was {friend}, with a [bucket|rope|lamp].",
        ),
        say(
            "They worked side by side until the morning came and the storm was over.",
            "They worked all night, and when the sun rose, everything was dry and safe.",
        ),
        say(
            '"I am sorry about the {thing}," said {hero}. "I am sorry too," said {friend}.',
            '"You can have the {thing}," said {hero}. "Let us both have it," said {friend}.',
        ),
        say(
            "They never [quarrelled|fought] about a thing again. A friend is worth more than that.",
            "And so they were friends again, and the storm had done some good after all.",
        ),
    ),
    tuple(
        {"thing": "{colour} " + thing}
        for thing in ("kite", "ribbon", "blanket", "scarf", "bag", "paper boat", "flag")
    ),
)

TRUTH = Plot(
    "who told the truth",
    (
        say(
            "One {weather} day, {hero} was playing near {spot} with a ball.",
            "One afternoon, {hero} threw a ball as high as {he} could.",
        ),
        say(
            "Crash! The ball hit {friend}'s {thing}, and it broke.",
            (
                "The ball flew too far, and it landed on the {thing} that belonged to "
                "{friend}. It broke."
            ),
        ),
        say(
            "Nobody had seen it. {hero} looked around and hid the pieces behind {spot2}.",
            "{hero} was frightened. {He} hid everything under some leaves by {spot2}.",
        ),
        say(
            'Soon {friend} came. "Have you seen my {thing}?" {fhe} asked. "No," said {hero}.',
            "When {friend} asked about the {thing}, {hero} said that {he} knew nothing.",
        ),
        maybe(
            "{Friend} looked everywhere until it was dark.",
            '"It was a gift from my father," said {friend}, and a tear ran down {fhis} face.',
        ),
        say(
            "That night {hero} could not sleep. {He} turned from side to side.",
            "At dinner {hero} could not eat. {He} felt as if {he} had swallowed a stone.",
        ),
        say(
            'In the morning {he} went to {friend}. "I broke it," {he} said. "I am so sorry."',
            "At last {he} ran to {friend} and told {fhim} the whole truth.",
        ),
        say(
            '{Friend} was silent for a while. "Thank you for telling me," {fhe} said.',
            '"I was sad about the {thing}," said {friend}, "but I am glad that you told me."',
        ),
        say(
            "They took glue and put the pieces together again. It looked almost like new.",
            (
                "Together they mended the {thing} with {colour2} string, and it was even "
                "prettier than before."
            ),
        ),
        say(
            (
                "{hero} felt as light as a feather. "
                "The truth is hard to say, but it is good to have said it."
            ),
            "That night, {hero} slept very well.",
        ),
    ),
    tuple({"thing": "{colour} " + thing} for thing in ("vase", "bowl", "lantern", "cup", "clock",
                                                       "jug", "toy boat", "teapot")),
)  # fmt: skip
