"""Plots of seeking: a lost thing, a far place, a gift."""

from demo_corpus.plots.plot import Plot, maybe, say

LOST = Plot(
    "who lost {his} {thing}",
    (
        say(
            "{hero} had a {thing}. It was the [best|finest|dearest] thing {he} had.",
            "The grandmother of {hero} had given {him} a {thing}, and {he} took it everywhere.",
            "More than anything, {hero} loved {his} {thing}.",
        ),
        say(
            (
                "One [sunny|windy|cloudy] [day|morning], {hero} looked for the {thing}, but "
                "it was gone."
            ),
            "But one {weather} morning, the {thing} was not there. [{hero} was very sad.|]",
        ),
        maybe(
            '"Where is my {thing}?" {he} [cried|asked|said]. "I had it yesterday!"',
            '"Oh no!" {he} cried. "I have lost my {thing}!"',
        ),
        say(
            "{He} looked near {spot}, but it was not there.",
            "First {he} went to {spot}. {He} looked high and low, but found [nothing|only leaves].",
        ),
        maybe(
            "Then {he} looked by {spot2}. There was nothing there but a [snail|beetle|feather].",
            "Next {he} asked a {bird} who lived by {spot2}. The {bird} had not seen it.",
        ),
        say(
            "At last {he} went to {friend} and told {fhim} what had happened.",
            "{Friend} saw {his} sad face and asked what was wrong. {hero} told {fhim} everything.",
        ),
        say(
            '"Let us think," said {friend}. "Where did you play yesterday?"',
            '"Do not cry," said {friend}. "Two can look better than one."',
            '"I will help you," said {friend}. "Where were you yesterday?"',
        ),
        say(
            "{hero} remembered that {he} had been at {spot3}. They ran there together.",
            "They went back to {spot3}, where {hero} had rested the day before.",
        ),
        say(
            "And there it was! The {thing} was lying [in the grass|under a leaf|behind a stone].",
            "Something {colour} was shining in the [sun|grass]. It was the {thing}!",
        ),
        say(
            '{hero} [laughed|jumped] with joy. "Thank you, {friend}!" {he} said.',
            '"You found it!" said {hero}, and {he} hugged {fhim}.',
        ),
        say(
            "From that day on, {hero} took good care of {his} {thing}.",
            "That night {hero} went to sleep with the {thing} beside {him}.",
            "{hero} was glad to have the {thing}, but even more glad to have a good friend.",
        ),
    ),
)

JOURNEY = Plot(
    "who wanted to see {goal}",
    (
        say(
            "All {his} life, {hero} had wanted to see {goal}.",
            "{hero} had heard many tales about {goal}, and {he} wanted to see it.",
        ),
        say(
            (
                'One {weather} morning, {he} packed some {food} and a {thing}. "I am going," '
                "{he} said."
            ),
            "One {weather} day, {he} put some {food} into a bag and set out.",
        ),
        say(
            '"I will come with you," said {friend}. "It is nicer to walk together."',
            (
                '{Friend} was waiting at {spot}. "May I come too?" {fhe} asked. "Of course!" '
                "said {hero}."
            ),
        ),
        maybe(
            "They walked past {spot} and past {spot2}, and they sang as they went.",
            "They walked all morning, over hills and through fields.",
        ),
        say(
            "But then they came to {barrier}. They could not go on.",
            "In the afternoon, {barrier} stopped them.",
        ),
        maybe(
            '"We have to go back," said {friend}, and {fhe} sat down.',
            "{hero} was so tired that {he} wanted to give up.",
        ),
        say(
            '"Wait," said {hero}. "I have an idea." {solution}.',
            "{hero} thought for a long time. Then {he} stood up. {solution}.",
        ),
        say(
            "They walked on, and [in the evening|when the sun went down] they stood before {goal}.",
            "And at last they came over the last hill, and there it was.",
        ),
        say(
            (
                "It was [even bigger|more beautiful|even finer] than in the tales. "
                "They did not say a word."
            ),
            '"Look," whispered {hero}. "It is real." They looked until the stars came out.',
        ),
        maybe(
            "They ate the {food} and told each other stories.",
            "They slept under the open sky, side by side.",
        ),
        say(
            "When {hero} came home to {his} {home}, {he} had a story to tell.",
            "The way back seemed much shorter. It always does with a friend.",
        ),
    ),
    (
        {"goal": "the great desert", "barrier": "a wide river without a bridge",
         "solution": "They built a raft from old logs and crossed the water"},
        {"goal": "the great waterfall", "barrier": "a high wall of rocks",
         "solution": "They found a small gap between the rocks and crept through"},
        {"goal": "the big city", "barrier": "a thick white fog",
         "solution": "They followed the sound of a bell until the air was clear"},
        {"goal": "the silver lake", "barrier": "a deep dark wood",
         "solution": "They put white stones on the path so as not to get lost"},
        {"goal": "the old tower on the mountain", "barrier": "a steep cliff",
         "solution": "They tied a rope around a tree and climbed up, hand over hand"},
        {"goal": "the castle on the hill", "barrier": "a locked gate",
         "solution": "They looked under a flat stone and found an old key"},
    ),
)  # fmt: skip

GIFT = Plot(
    "who looked for a gift",
    (
        say(
            "Winter was coming, and {hero} wanted to give {friend} a gift. But {he} had no money.",
            "{hero} wanted to thank {friend} for all {fhis} help. {He} wanted to find a gift.",
        ),
        say(
            "{He} went to the market and looked at everything there. It was all too expensive.",
            "{He} looked near {spot}. There were only stones and dry leaves.",
        ),
        say(
            "At {spot2}, {he} met a {bird} who was [crying|very sad].",
            "On the way to {spot2}, {he} met an old {bird} with a heavy bag.",
        ),
        say(
            '{hero} stopped. "What can I do for you?" {he} asked kindly.',
            '"Let me help you," said {hero}, although {he} was in a hurry.',
        ),
        say(
            "{He} helped the {bird} to get home. It took the whole afternoon.",
            "They went to the house of the {bird} together and drank hot tea.",
        ),
        say(
            (
                '"You are kind," said the {bird}. "Please take this {thing}. '
                'I do not need it any more."'
            ),
            'At the door the {bird} gave {him} a {thing}. "This is for you," it said.',
        ),
        maybe(
            "{hero} liked the {thing} very much. For a moment {he} wanted to keep it.",
            "It was the prettiest {thing} that {hero} had ever seen.",
        ),
        say(
            "Then {he} wrapped it in {colour2} paper and brought it to {friend}.",
            "But {he} knew what to do. {He} took it to {friend} that same evening.",
        ),
        say(
            '"A {thing}!" said {friend}. "How did you know? I have always wanted one!"',
            '{Friend} opened {fhis} gift and smiled. "It is perfect," {fhe} said.',
        ),
        say(
            "And {friend} had a gift too. It was {food}, still warm from the oven.",
            "They sat by the fire together while the snow fell outside.",
        ),
    ),
)
