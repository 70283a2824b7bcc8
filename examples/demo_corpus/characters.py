"""Who a story is about, and the slots that stay the same from its first line to its last."""

from dataclasses import dataclass
from random import Random

from demo_corpus.grammar import expand_phrase, with_capitals
from demo_corpus.words import (
    ANIMAL_HOMES,
    BOY_NAMES,
    COLOURS,
    FOODS,
    GIRL_NAMES,
    PEOPLE_HOMES,
    THINGS,
    TRAITS,
    WORLDS,
)  # fmt: skip

PRONOUNS = {"girl": ("she", "her", "her", "herself"), "boy": ("he", "him", "his", "himself")}


@dataclass(frozen=True)
class Character:
    """A name that goes with one kind, one set of pronouns, one trait and one home."""

    name: str
    kind: str
    gender: str
    trait: str
    home: str


def make_character(rng: Random, gender: str, kind: str | None = None) -> Character:
    """Draws a character; three in four are animals."""
    if kind is None:
        kind = rng.choice(list(ANIMAL_HOMES) if rng.random() < 0.75 else list(PEOPLE_HOMES))
    if kind in PRONOUNS:
        gender = kind
    name = rng.choice(GIRL_NAMES if gender == "girl" else BOY_NAMES)
    home = {**ANIMAL_HOMES, **PEOPLE_HOMES}[kind]
    return Character(name, kind, gender, rng.choice(list(TRAITS)), home)


def make_pair(
    rng: Random, kind: str | None = None, friend_kind: str | None = None
) -> tuple[Character, Character]:
    """Draws hero and friend of different genders, so that `he` and `she` are never in doubt."""
    gender = "girl" if "girl" == kind or "boy" == friend_kind else rng.choice(["girl", "boy"])
    gender = "boy" if "boy" == kind or "girl" == friend_kind else gender
    hero = make_character(rng, gender, kind)
    other = "boy" if hero.gender == "girl" else "girl"
    friend = make_character(rng, other, friend_kind)
    while friend.kind == hero.kind or friend.gender == hero.gender:
        friend = make_character(rng, other)
    return hero, friend


def story_slots(hero: Character, friend: Character, rng: Random) -> dict[str, str]:
    """Everything that all plots may mention: both characters, the world and a few things."""
    world = rng.choice(list(WORLDS))
    spots = rng.sample(WORLDS[world], 3)
    colours = rng.sample(COLOURS, 2)
    slots = {"in_place": expand_phrase(world, {}, rng)}
    slots |= {"spot": spots[0], "spot2": spots[1], "spot3": spots[2]}
    slots |= {"colour": colours[0], "colour2": colours[1]}
    slots |= {"thing": f"{colours[0]} {rng.choice(THINGS)}", "food": rng.choice(FOODS)}
    slots |= {"trait": hero.trait, "reason": TRAITS[hero.trait], "ftrait": friend.trait}
    slots |= character_slots(hero, "") | character_slots(friend, "f")
    return with_capitals(slots)


def character_slots(character: Character, prefix: str) -> dict[str, str]:
    """The slots of one character: `{hero} {kind} {he} {him} {his}`, or `{friend} {fkind} ...`."""
    he, him, his, himself = PRONOUNS[character.gender]
    named = {"he": he, "him": him, "his": his, "himself": himself}
    named |= {"kind": character.kind, "home": character.home}
    slots = {prefix + key: value for key, value in named.items()}
    return slots | {"friend" if prefix else "hero": character.name}
