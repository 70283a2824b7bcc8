"""Small stories: an opening that introduces everybody, one plot or several, and a last line."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from demo_corpus.characters import Character, make_pair, story_slots
from demo_corpus.grammar import expand, expand_phrase, with_capitals
from demo_corpus.plots import ALL_PLOTS
from demo_corpus.plots.plot import Plot

OPENINGS = (
    "Once upon a time, {in_place}, there lived a {trait} {kind} named {hero}.",
    "There once was a {trait} {kind} named {hero} who lived {in_place}.",
    "{in_place}, there lived a {trait} {kind}. {His} name was {hero}.",
    "Long ago, a {kind} named {hero} lived {in_place}. {He} was very {trait}.",
    "Once there was a {kind} named {hero}. {He} lived {in_place}.",
    "{hero} was a {trait} {kind} who lived {in_place}.",
    "One [sunny|rainy|windy|cold] [morning|day], a [little|young|old|{trait}] {kind} named {hero} "
    "looked out of {his} {home}. {He} lived {in_place}.",
    "There once was a [little|young|old] {kind} named {hero}. {He} lived {in_place}.",
    "Long ago, {in_place}, there lived a [little|young|old|{trait}] {kind} named {hero}.",
)
TRAIT_LINES = (
    "[Everyone knew that {he}|{He}] {reason}.",
    "{He} had a [small|cosy|warm|tidy] {home} near {spot}.",
    "{hero} {reason}, and {he} loved {food}.",
)
FRIEND_LINES = (
    "{His} best friend was a {fkind} named {friend}.",
    "{He} had a good friend, a {ftrait} {fkind} named {friend}.",
    "Every day {he} played with {friend}, a {fkind} who lived near {spot2}.",
    "Next door lived {friend}, a {ftrait} {fkind}, and the two were friends.",
)
LINKS = (
    "But that is not the end of the story.",
    "Some weeks went by.",
    "A month later, something new happened.",
    "The two friends had many more adventures. Here is one of them.",
)
LAST_LINES = (
    "The end.",
    "And that is the story of {hero} and {friend}.",
    "And they [lived happily ever after|stayed friends for ever].",
    "",
    "",
)
WEATHER = ("sunny", "windy", "cloudy", "rainy", "warm", "cold", "foggy", "bright", "grey", "quiet")
BIRDS = ("robin", "lark", "swallow", "magpie", "finch", "crow", "blackbird")


@dataclass(frozen=True)
class Story:
    """The text, and who and what it was about, so that questions can be asked."""

    text: str
    hero: Character
    friend: Character
    about: str


def make_story(
    rng: Random,
    *,
    kind: str | None = None,
    friend_kind: str | None = None,
    length: str = "medium",
) -> Story:
    """Tells a story: `short` skips the optional beats, `long` strings three plots together."""
    hero, friend = make_pair(rng, kind, friend_kind)
    slots = story_slots(hero, friend, rng)
    plots = rng.sample(ALL_PLOTS, 3 if length == "long" else 1)
    paragraphs = [introduction(slots, rng, length)]
    links, abouts = rng.sample(LINKS, len(plots) - 1), []
    for number, plot in enumerate(plots):
        if number:
            paragraphs.append(links[number - 1])
            slots = retold_slots(slots, story_slots(hero, friend, rng))
        slots = plot_slots(plot, slots, rng)
        abouts.append(expand_phrase(plot.about, slots, rng))
        paragraphs += tell(plot, slots, rng, length)
    paragraphs.append(expand(rng.choice(LAST_LINES), slots, rng))
    return Story("\n\n".join(p for p in paragraphs if p), hero, friend, abouts[0])


def introduction(slots: dict[str, str], rng: Random, length: str) -> str:
    """Names the hero, the place and the friend."""
    lines = [rng.choice(OPENINGS)]
    if length != "short" and rng.random() < 0.6:
        lines.append(rng.choice(TRAIT_LINES))
    lines.append(rng.choice(FRIEND_LINES))
    return expand(" ".join(lines), slots, rng)


def tell(plot: Plot, slots: dict[str, str], rng: Random, length: str) -> Sequence[str]:
    """Says the beats of a plot one after another, in two or three paragraphs."""
    keep = 0.0 if length == "short" else 0.75
    beats = [beat for beat in plot.beats if not beat.optional or rng.random() < keep]
    sentences = [expand(rng.choice(beat.ways), slots, rng) for beat in beats]
    third = max(1, len(sentences) // 3 + rng.choice([0, 1]))
    return [" ".join(sentences[i : i + third]) for i in range(0, len(sentences), third)]


def plot_slots(plot: Plot, slots: dict[str, str], rng: Random) -> dict[str, str]:
    """Adds the slots of one variant of the plot, which may themselves use the story's slots."""
    variant = rng.choice(plot.variants)
    extra = {key: expand_phrase(value, slots, rng) for key, value in variant.items()}
    return with_capitals(
        slots | {"weather": rng.choice(WEATHER), "bird": rng.choice(BIRDS)} | extra
    )


def retold_slots(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Keeps the place and the people of a long story, and takes new things for its next part."""
    changing = ("thing", "food", "colour", "colour2")
    return with_capitals(old | {key: new[key] for key in changing})
