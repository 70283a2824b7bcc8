"""Where the parameters of a policy may lie: ranges of numbers, and choices."""

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jpaged.errors import ConfigError

Value = float | str | None  # booleans and whole numbers, too


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included: whole ones where both are.

    is_log: each doubling is as likely as the next; for what spans magnitudes.
    """

    low: float
    high: float
    is_log: bool = False

    def __post_init__(self) -> None:
        bounds = (self.low, self.high)
        if not all(type(each) in (int, float) and math.isfinite(each) for each in bounds):
            raise ConfigError(f"the bounds of a range are numbers, not {self.low!r}, {self.high!r}")
        if self.low >= self.high:
            raise ConfigError(f"a range goes up; {self.low} is not below {self.high}")
        if self.is_log and self.low <= 0:
            raise ConfigError(f"a logarithmic range begins above 0, not at {self.low}")

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def is_at_end(self, value: Value) -> bool:
        """The first or last whole number, or in the first or last hundredth."""
        if isinstance(value, str | None) or value not in self:
            return False
        if self.is_whole:
            return value in self.ends
        low, at, high = (math.log(v) if self.is_log else v for v in (self.low, value, self.high))
        return min(at - low, high - at) <= (high - low) / 100

    def __contains__(self, value: object) -> bool:
        kinds = (int,) if self.is_whole else (int, float)
        return type(value) in kinds and self.low <= value <= self.high  # pyright: ignore

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (", logarithmic" if self.is_log else "")


@dataclass(frozen=True)
class Choice:
    """One of some values: numbers, words, True and False, or None."""

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        wrong = [each for each in self.options if not isinstance(each, float | int | str | None)]
        if wrong:
            raise ConfigError(
                f"a choice is between numbers, words, True, False and None, not {wrong}"
            )
        if len(set(self.options)) < max(2, len(self.options)):
            raise ConfigError(f"a choice is between two or more different values, not {self}")

    @property
    def ends(self) -> tuple[Value, ...]:
        return self.options

    def __contains__(self, value: object) -> bool:
        return value in self.options

    def __str__(self) -> str:
        return " or ".join(map(str, self.options)) or "none"


Space = Mapping[str, Range | Choice]


def defaults_of(make: Callable[..., Any], space: Space, name: str) -> dict[str, Any]:
    """What the parameters of the space are if nobody says.  Raises `ConfigError` for those that
    the policy does not have, and where some have no default: there would be nothing to compare
    with."""
    known = inspect.signature(make).parameters
    takes = ", ".join(_described(each) for each in known.values())
    if not space:
        raise ConfigError(f"nothing to search; {name} takes {takes or 'no parameters'}")
    unknown = [each for each in space if each not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"{name} has no parameter {', '.join(unknown)}{hint}; it takes "
            f"{takes or 'none: there is nothing to search'}"
        )
    lacking = [each for each, parameter in known.items() if _is_required(parameter)]
    if lacking:
        raise ConfigError(
            f"{name} has no default for {', '.join(lacking)}, and a search compares with the "
            "defaults; pass a function that has one"
        )
    return {each: known[each].default for each in space}


def check_ends(make: Callable[..., Any], space: Space, name: str) -> None:
    """Raises `ConfigError` for ends of the space at which there is no policy."""
    for parameter, domain in space.items():
        for value in domain.ends:
            try:
                make(**{parameter: value})
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{name} with {parameter}={value!r}: {error}") from error


def _is_required(parameter: inspect.Parameter) -> bool:
    is_many = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not is_many


def _described(parameter: inspect.Parameter) -> str:
    has_none = parameter.default is parameter.empty
    return parameter.name if has_none else f"{parameter.name} (default {parameter.default!r})"
