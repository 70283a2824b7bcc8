"""How long things are: laws of whole numbers, of which each draw takes one number of chance.

`Lengths`, the log-normal law, is another.
"""

import math
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from numbers import Integral, Real
from random import Random
from statistics import NormalDist, fmean
from typing import Protocol

from jpaged.errors import ConfigError

NORMAL = NormalDist()


class Law(Protocol):
    """Draws numbers from 1 on."""

    def draw(self, rng: Random) -> int: ...


Counts = int | Sequence[int] | Law  # what `as_law` makes a law of


@dataclass(frozen=True)
class Fixed:
    """Always the same."""

    value: int

    def __post_init__(self) -> None:
        check_counts(value=self.value)

    @property
    def mean(self) -> float:
        return self.value

    def draw(self, rng: Random) -> int:
        rng.random()  # in step with other laws
        return self.value


@dataclass(frozen=True)
class Uniform:
    """All from `least` to `most` alike."""

    least: int
    most: int

    def __post_init__(self) -> None:
        check_range(self.least, self.most)

    @property
    def mean(self) -> float:
        return (self.least + self.most) / 2

    def draw(self, rng: Random) -> int:
        return self.least + int(rng.random() * (self.most - self.least + 1))


@dataclass(frozen=True)
class Geometric:
    """After each one there is another one with the same probability: turns, calls of tools."""

    mean: float

    def __post_init__(self) -> None:
        if not (self.mean >= 1 and math.isfinite(self.mean)):
            raise ConfigError(f"a geometric law's mean is 1 or more, not {self.mean!r}")

    def draw(self, rng: Random) -> int:
        place = 1 - rng.random()  # never 0
        if self.mean == 1:
            return 1
        return 1 + int(math.log(place) / math.log1p(-1 / self.mean))


@dataclass(frozen=True)
class Zipf:
    """n as often as n to the power of -`exponent`, from `least` to `most`.

    BurstGPT's prompts are said to follow it (Wang et al., KDD 2025).
    """

    most: int
    exponent: float = 1.0
    least: int = 1

    def __post_init__(self) -> None:
        check_range(self.least, self.most)
        if not (self.exponent >= 0 and math.isfinite(self.exponent)):
            raise ConfigError(f"a Zipf law's exponent is 0 or more, not {self.exponent!r}")

    @cached_property
    def mean(self) -> float:
        numbers = range(self.least, self.most + 1)
        return sum(n * n**-self.exponent for n in numbers) / self._shares[-1]

    def draw(self, rng: Random) -> int:
        place = rng.random() * self._shares[-1]
        return self.least + min(bisect(self._shares, place), len(self._shares) - 1)

    @cached_property
    def _shares(self) -> list[float]:
        """Of each number and those below it."""
        return list(accumulate(n**-self.exponent for n in range(self.least, self.most + 1)))


@dataclass(frozen=True)
class Empirical:
    """Any of those that were seen, as often as they were."""

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("an empirical law of no values; give it at least one")
        check_counts(**{f"values[{i}]": value for i, value in enumerate(self.values)})

    @property
    def mean(self) -> float:
        return fmean(self.values)

    def draw(self, rng: Random) -> int:
        return self.values[int(rng.random() * len(self.values))]


@dataclass(frozen=True)
class Pauses:
    """Log-normal seconds, as of somebody who thinks or a tool that works.

    log_spread: the standard deviation of the logarithm; with 0 all are `mean`.
    """

    mean: float
    log_spread: float = 1.0

    def __post_init__(self) -> None:
        wrong = [f"{k}={v!r}" for k, v in vars(self).items() if not (v >= 0 and math.isfinite(v))]
        if wrong:
            raise ConfigError(f"pauses are of 0 seconds or more: {', '.join(wrong)}")

    def draw(self, rng: Random) -> float:
        place = max(rng.random(), 1e-12)  # the normal law has no quantile at 0
        spread = self.log_spread
        return self.mean * math.exp(spread * NORMAL.inv_cdf(place) - spread**2 / 2)


def as_law(name: str, given: Counts) -> Law:
    """The law that is meant by a number, a list or a law.  Raises `ConfigError`."""
    if isinstance(given, int | Integral):
        check_counts(**{name: given})
        return Fixed(int(given))
    if isinstance(given, Iterable) and not isinstance(given, str):  # a column of a table, too
        return Empirical(tuple(given))
    if isinstance(given, str) or not hasattr(given, "draw"):
        raise ConfigError(
            f"{name} is a number, a list of them or a law (Lengths, Zipf, Uniform, Geometric, "
            f"Fixed, Empirical), not {given!r}"
        )
    return given


def drawn(name: str, law: Law, rng: Random) -> int:
    """One number of a law, which may be somebody else's."""
    value = law.draw(rng)
    check_counts(**{name: value})
    return value


def check_counts(**values: object) -> None:
    """Raises `ConfigError` for those that are no whole number from 1 on."""
    wrong = [
        f"{name}={value!r}"
        for name, value in values.items()
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1
    ]
    if wrong:
        raise ConfigError(f"whole numbers from 1 on are wanted: {', '.join(wrong)}")


def check_positive(**values: float) -> None:
    """Raises `ConfigError` for those that are not above 0, or not finite."""
    wrong = [
        f"{name}={value!r}"
        for name, value in values.items()
        if not isinstance(value, Real) or not (value > 0 and math.isfinite(value))
    ]
    if wrong:
        raise ConfigError(f"numbers above 0 are wanted: {', '.join(wrong)}")


def check_range(least: int, most: int) -> None:
    check_counts(least=least, most=most)
    if least > most:
        raise ConfigError(f"least={least} is above most={most}; exchange them")
