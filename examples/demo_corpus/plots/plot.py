"""The shape of a plot: a row of beats, each beat a few ways to say one thing.

Hero and friend are introduced before the first beat; a plot gives the want, the obstacle,
the turn and the ending. Optional beats are left out of short stories.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Beat:
    """One step of a plot, said in one of several ways."""

    ways: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Plot:
    """Beats, the variants of the extra slots they use, and what the story is about."""

    about: str
    beats: tuple[Beat, ...]
    variants: tuple[dict[str, str], ...] = ({},)


def say(*ways: str) -> Beat:
    """A beat that is always told."""
    return Beat(ways)


def maybe(*ways: str) -> Beat:
    """A beat that short stories skip."""
    return Beat(ways, optional=True)
