"""A tiny template language: `{slot}` is filled in, `[this|that]` is chosen.

One template stands for many sentences, so a few hundred lines of templates give a corpus
in which hardly any two stories are alike. Choices may be nested and may be empty.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

INNERMOST_CHOICE = re.compile(r"\[([^\[\]]*)\]")
ARTICLE_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOU]|honest|hour)")
SENTENCE_START = re.compile(r"(^|[.!?] |\n|[.!?:] \")([a-z])")


def expand(template: str, slots: Mapping[str, str], rng: Random) -> str:
    """Makes every choice, fills every slot, and mends articles, capitals and spaces."""
    text = template
    while INNERMOST_CHOICE.search(text):
        text = INNERMOST_CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
    return tidy(text.format_map(slots))


def expand_phrase(template: str, slots: Mapping[str, str], rng: Random) -> str:
    """Expands part of a sentence, which keeps its small first letter."""
    return expand("- " + template, slots, rng)[2:]


def tidy(text: str) -> str:
    """Mends what templates cannot know: `a owl`, a lower-case start, doubled spaces."""
    text = re.sub(r" +", " ", text).strip()
    text = ARTICLE_BEFORE_VOWEL.sub(r"\1n ", text)
    return SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def with_capitals(slots: Mapping[str, str]) -> dict[str, str]:
    """Adds a capitalised twin for every slot: `{he}` brings `{He}`."""
    capitals = {
        name[0].upper() + name[1:]: value[:1].upper() + value[1:] for name, value in slots.items()
    }
    return {**slots, **capitals}


def listing(words: Sequence[str]) -> str:
    """Joins words as English does: `a, b and c`."""
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " and " + words[-1]
