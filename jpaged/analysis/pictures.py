"""Pictures that are drawn already: SVG in the page's colours, each mark with what it says.

Where a script draws (`chart.js`) there is more to do with a picture; these need none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, isfinite, log, log10

from jpaged.analysis.numbers import number

WIDTH = 620
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 230, 64, 14, 10, 38


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the two."""
    raw = (high - low) / most or 1.0
    power = 10.0 ** floor(log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten; only the 1s where there are many."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    found = [each for each in found if low * 0.999 <= each <= high * 1.001]
    ones = [each for each in found if isfinite(log10(each)) and log10(each) % 1 < 1e-9]
    return ones if len(found) > 9 and len(ones) > 1 else found


@dataclass(frozen=True)
class Axis:
    """From low to high.  names: of the places 0, 1, 2, … in place of numbers."""

    label: str
    low: float
    high: float
    unit: str = ""
    is_log: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def over(cls, label: str, values: Sequence[float], unit: str = "") -> "Axis":
        """Of all values, with room around them; logarithmic where a few would press the others
        together."""
        low, high = min(values), max(values)
        if low > 0 and high > 8 * low:
            return cls(label, low / 1.2, high * 1.2, unit, is_log=True)
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        return cls(label, low - room, high + room, unit)

    def place(self, value: float) -> float:
        """From 0 to 1."""
        if self.is_log:
            return log(value / self.low) / log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        if self.names:
            return [(float(place), name) for place, name in enumerate(self.names)]
        found = ticks(self.low, self.high, most)
        if self.is_log:
            found = log_ticks(self.low, self.high)
        return [(value, number(value, self.unit)) for value in found]


@dataclass(frozen=True)
class Dot:
    """kind: a class of the style sheet.  tip: what it says."""

    x: float
    y: float
    kind: str
    tip: str


@dataclass(frozen=True)
class Line:
    points: Sequence[tuple[float, float]]
    kind: str


def scatter(label: str, x: Axis, y: Axis, dots: Sequence[Dot], lines: Sequence[Line] = ()) -> str:
    """Dots over two axes; later ones lie on top."""
    inner_x, inner_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at_x(value: float) -> float:
        return LEFT + inner_x * x.place(value)

    def at_y(value: float) -> float:
        return TOP + inner_y * (1 - y.place(value))

    parts = [_grid(x, y, at_x, at_y)]
    for line in lines:
        path = " ".join(f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in line.points)
        parts.append(f'<polyline class="{line.kind}" points="{path}"/>')
    for dot in dots:
        parts.append(_mark(dot, at_x(dot.x), at_y(dot.y)))
    return picture(label, HEIGHT, "".join(parts))


def _mark(dot: Dot, x: float, y: float) -> str:
    shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if dot.kind == "over":
        shape = f'<path d="M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8"/>'
    return f'<g class="{dot.kind}" {tip(dot.tip)}>{shape}</g>'


def _grid(x: Axis, y: Axis, at_x, at_y) -> str:
    bottom, parts = HEIGHT - BOTTOM, []
    for value, text in y.ticks(5):
        place = at_y(value)
        parts.append(f'<path class="grid-line" d="M{LEFT},{place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(words(LEFT - 7, place + 4, text, "end"))
    last = -100.0
    for value, text in x.ticks(7):
        place = at_x(value)
        if place - last >= 9 * len(text):
            parts.append(words(place, bottom + 15, text, "middle"))
            last = place
    parts.append(f'<path class="axis" d="M{LEFT},{bottom}H{WIDTH - RIGHT}"/>')
    parts.append(words(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 5, x.label, "middle"))
    return "".join(parts)


def words(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def tip(text: str) -> str:
    """The attributes of a mark that says something."""
    shown = escape(text, quote=True).replace("\n", "&#10;")
    return f'data-tip="{shown}" tabindex="0" role="img" aria-label="{shown}"'


def picture(label: str, height: float, inside: str) -> str:
    label = escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="group" aria-label="{label}">{inside}</svg>'


def figure(title: str, note: str, inside: str) -> str:
    return f'<figure><h3>{title} <span class="note">{note}</span></h3>{inside}</figure>'


def steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """As a staircase: what was, until it changes."""
    found = list(points[:1])
    for (_, before), (x, y) in pairwise(points):
        found += [(x, before), (x, y)]
    return found
