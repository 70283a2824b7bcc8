"""Plots that take effort: a birthday cake, a race, a seed."""

from demo_corpus.plots.plot import Plot, maybe, say

BIRTHDAY = Plot(
    "who baked a cake",
    (
        say(
            "One day, {hero} remembered that it was {friend}'s birthday.",
            "The birthday of {friend} was near, and {hero} wanted to make {fhim} happy.",
        ),
        say(
            '"I will bake a {cake} cake," {he} said. "{friend} loves {cake} cake."',
            "{He} wanted to bake the best {cake} cake in the world.",
        ),
        say(
            "{He} took flour, butter and honey. But there was no {missing} left.",
            "{He} had almost everything. Only the {missing} was missing.",
        ),
        say(
            "So {he} went to the {helper} who lived by {spot}.",
            "{He} ran to {spot}, where an old {helper} lived.",
        ),
        say(
            (
                '"I can give you {missing}," said the {helper}. '
                '"But first, please help me with {chore}."'
            ),
            '"You may have some {missing}," said the {helper}, "if you help me with {chore}."',
        ),
        say(
            "{hero} worked hard until it was done. The {helper} smiled and kept the promise.",
            "It was hard work, but {hero} did not stop. Then {he} got the {missing}.",
        ),
        maybe(
            "{He} ran home, mixed everything and put the cake into the oven.",
            "Back at home, {he} stirred and baked, and soon a sweet smell was in the air.",
        ),
        maybe(
            "The first cake was [burnt|too flat], so {hero} baked a second one. It was just right.",
            "{He} put {colour} [candles|flowers] on top. It looked lovely.",
        ),
        say(
            "In the evening, {he} knocked at the door of {friend} and held out the cake.",
            "Then {he} carried the cake to {friend}, very carefully.",
        ),
        say(
            '"Happy birthday!" said {hero}. {Friend} could not believe {fhis} eyes.',
            '"For me?" asked {friend}. "For you," said {hero}. "Happy birthday!"',
        ),
        say(
            "They ate the whole cake, and it was the best birthday that {friend} ever had.",
            "They invited the {helper} too, and all three ate cake until late at night.",
        ),
    ),
    tuple(
        {"cake": cake, "missing": missing, "helper": helper, "chore": chore}
        for cake, missing in (("plum", "sugar"), ("apple", "milk"), ("nut", "salt"),
                              ("cherry", "cream"))
        for helper, chore in (("goose", "the washing"), ("hare", "the garden"),
                              ("stork", "the roof"), ("tortoise", "the heavy boxes"))
    ),
)  # fmt: skip

RACE = Plot(
    "who took part in a race",
    (
        say(
            "Every [spring|summer|autumn] there was a great race from {spot} to {spot2}.",
            "One day, a sign hung near {spot}. It said that there would be a big race.",
        ),
        say(
            "{hero} wanted to win, but {he} was not very fast.",
            '"I want to run too," said {hero}. The others laughed, because {he} was slow.',
        ),
        say(
            'Only {friend} believed in {him}. "Let us practise every day," {fhe} said.',
            '"You can do it," said {friend}. "I will help you."',
        ),
        maybe(
            "So they got up early every morning and ran to {spot3} and back.",
            "They ran in the rain, and they ran in the sun.",
        ),
        maybe(
            "Day by day, {hero} became a little faster.",
            "At first {he} had to rest often. After a week, {he} did not.",
        ),
        say(
            "Then the great day came. A {bird} gave the sign, and off they went!",
            "On the day of the race, everyone came to watch. One, two, three, go!",
        ),
        say(
            "{hero} ran as well as {he} could. Soon only {rival} was in front of {him}.",
            "At {spot3}, {hero} passed one after the other. Only {rival} was faster.",
        ),
        say(
            "Suddenly {rival} tripped over a root and fell down.",
            "But then {rival} slipped in the mud and could not get up.",
        ),
        say(
            '{hero} could have won. But {he} stopped and asked, "Are you hurt?"',
            "{hero} saw the finish line. Then {he} looked back, and {he} turned around to help.",
        ),
        say(
            "{He} helped {rival} up, and they crossed the line together, last of all.",
            "Side by side they walked over the line, long after the others.",
        ),
        say(
            (
                "Everybody cheered. The prize went to the fastest, but the loudest cheer was "
                "for {hero}."
            ),
            '"You did not win the cup," said {friend}, "but you won a friend."',
        ),
    ),
    tuple({"rival": rival} for rival in ("the hare", "the young stag", "the tall goose",
                                         "the grey pony", "the striped cat")),
)  # fmt: skip

SEED = Plot(
    "who planted a seed",
    (
        say(
            (
                "One spring day, {friend} gave {him} a small brown seed. "
                '"Plant it and wait," {fhe} said.'
            ),
            "One spring morning, {hero} found a tiny seed near {spot}.",
        ),
        say(
            "{hero} dug a hole by {spot2}, put the seed into it and gave it some water.",
            "{He} planted it by {spot2} and covered it with soft earth.",
        ),
        say(
            "The next day {he} went to look. There was nothing to see.",
            "Every morning {he} ran to look, but nothing happened.",
        ),
        maybe(
            '"Grow!" said {hero}. "Please grow!" But the earth was silent.',
            "{He} sang to it, and {he} read to it, but still nothing came.",
        ),
        say(
            '"Maybe it is a bad seed," {he} said to {friend}. "I will dig it up."',
            'After a week, {hero} was angry. "This seed does not work," {he} said.',
        ),
        say(
            (
                'But {friend} shook {fhis} head. "Give it time," {fhe} said. '
                '"Good things grow slowly."'
            ),
            '{Friend} only smiled. "You cannot hurry a seed," {fhe} said. "Water it and wait."',
        ),
        say(
            "So {hero} waited. It rained, and the sun shone, and it rained again.",
            "{hero} sighed, but {he} kept giving it water, day after day.",
        ),
        say(
            "Then, one morning, there was a tiny green leaf!",
            "And one {weather} morning, something green looked out of the earth.",
        ),
        say(
            (
                "It grew and grew until it was [as tall as {hero}|taller than the fence]. "
                "In summer it had a big {colour} flower."
            ),
            "By summer it was a fine bush with {colour} flowers.",
        ),
        maybe(
            "Bees and birds came from far away to visit it.",
            '"It is the most beautiful flower that I have ever seen," said {friend}.',
        ),
        say(
            "In autumn it made a hundred new seeds, and {hero} gave one to everybody {he} knew.",
            "And {hero} had learned to wait.",
            '"Now I know what waiting is good for," said {hero}.',
        ),
    ),
)  # fmt: skip
