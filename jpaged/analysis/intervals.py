"""How far policies are from the first one, and how sure that is: drawn, and as a table."""

from collections.abc import Sequence
from html import escape
from math import isfinite, isnan

from jpaged.analysis.numbers import better, change, number, words_of
from jpaged.analysis.pictures import WIDTH, figure, picture, ticks, tip, words
from jpaged.analysis.tables import table
from jpaged.simulator.compare import Comparison, Estimate
from jpaged.simulator.measures import is_more_better

ROW, MEAN, CHANGE, PLOT = 26, 192, 204, 376  # where the columns end or begin
LONGEST, LETTER = 18, 6.5  # letters of a name; how wide one is


def glance(found: Comparison, workload: str, measures: Sequence[str]) -> str:
    """A table: a row a policy, and for each measure its mean, and its change where that is beyond
    chance."""
    head = [f'<span title="{escape(words_of(e)[0])}">{escape(e)}</span>' for e in measures]
    rows = [
        (escape(policy), *(_cell(found, workload, policy, each) for each in measures))
        for policy in found.policies
    ]
    return table(("", *head), rows)


def _cell(found: Comparison, workload: str, policy: str, measure: str) -> str:
    mean = number(found.estimate(workload, policy, measure).mean, words_of(measure)[1])
    difference = found.difference(workload, policy, measure)
    kind = kind_of(difference, measure)
    if kind == "same" and isfinite(difference.error):
        return mean
    if policy == found.policies[0] or not isfinite(difference.mean):
        return mean
    return f'{mean} <span class="{kind}">{change(difference.mean)}</span>'


def pictures(found: Comparison, workload: str, measures: Sequence[str]) -> str:
    """A figure for each measure in which policies differ; of the others, what they are."""
    same = {each: mean for each in measures if (mean := _only_mean(found, workload, each))}
    drawn = "".join(intervals(found, workload, each) for each in measures if each not in same)
    told = ", ".join(f"<code>{escape(measure)}</code> {mean}" for measure, mean in same.items())
    grid = f'<div class="grid pictures">{drawn}</div>' if drawn else ""
    return grid + (f'<p class="note last">The same under every policy: {told}</p>' if told else "")


def _only_mean(found: Comparison, workload: str, measure: str) -> str | None:
    values = [found.values(workload, policy, measure) for policy in found.policies]
    if any(each != values[0] for each in values):
        return None
    return number(found.estimate(workload, found.policies[0], measure).mean, words_of(measure)[1])


def intervals(found: Comparison, workload: str, measure: str) -> str:
    """A figure: a row a policy, with its mean, and its difference with its interval."""
    text, unit = words_of(measure)
    title = f"{escape(text[0].upper() + text[1:])} <code>{escape(measure)}</code>"
    means = {each: found.estimate(workload, each, measure).mean for each in found.policies}
    changes = {each: found.difference(workload, each, measure) for each in found.policies}
    reach = max(0.01, *map(_far, changes.values())) * 1.06
    body = [_axis(reach, ROW * len(changes))]
    for row, policy in enumerate(found.policies):
        y = ROW * row + ROW // 2
        mean = number(means[policy], unit)
        body.append(words(0, y + 4, _short(policy), kind="label"))
        body.append(words(MEAN, y + 4, mean, "end", "label"))
        body.append(_row(found, measure, policy, mean, changes[policy], reach, y))
    label = f"{measure} under {workload}"
    return figure(title, better(measure), picture(label, ROW * len(changes) + 20, "".join(body)))


def kind_of(difference: Estimate, measure: str) -> str:
    """better, worse, or the same as far as one can tell."""
    if not difference.is_different:
        return "same"
    return "better" if (difference.mean > 0) == is_more_better(measure) else "worse"


def _row(
    found: Comparison,
    measure: str,
    policy: str,
    mean: str,
    difference: Estimate,
    reach: float,
    y: int,
) -> str:
    if not isfinite(difference.mean):
        return words(CHANGE, y + 4, "no share of 0")
    kind, first = kind_of(difference, measure), found.policies[0]
    if policy == first:
        said, told = "base", f"{policy}: {mean}, what the others are measured against"
    else:
        said = change(difference.mean, difference.error)
        told = f"{policy}: {mean}, {said} against {first}\n{_verdict(difference, kind)}"
    error = 0.0 if isnan(difference.error) else difference.error
    low, high = (_x(difference.mean + sign * error, reach) for sign in (-1, 1))
    bar = f'<path class="bar-line" d="M{low:.1f},{y}H{high:.1f}"/>'
    dot = f'<circle cx="{_x(difference.mean, reach):.1f}" cy="{y}" r="5"/>'
    room = f'<rect class="room" x="0" y="{y - ROW // 2}" width="{WIDTH}" height="{ROW}"/>'
    return f'{words(CHANGE, y + 4, said)}<g class="{kind}" {tip(told)}>{room}{bar}{dot}</g>'


def _verdict(difference: Estimate, kind: str) -> str:
    if isnan(difference.error):
        return "from one run: what chance does is not known"
    return "no difference beyond chance" if kind == "same" else f"{kind}, beyond chance"


def _far(difference: Estimate) -> float:
    error = 0.0 if isnan(difference.error) else difference.error
    far = abs(difference.mean) + error
    return far if isfinite(far) else 0.0


def _x(share: float, reach: float) -> float:
    return PLOT + (WIDTH - PLOT - 16) * (share / reach + 1) / 2


def _axis(reach: float, bottom: int) -> str:
    parts = []
    for share, text in _marks(reach).items():
        x = _x(share, reach)
        kind = "grid-line" if share else "axis"
        parts.append(f'<path class="{kind}" d="M{x:.1f},0V{bottom}"/>')
        parts.append(words(x, bottom + 14, text, "middle"))
    return "".join(parts)


def _marks(reach: float) -> dict[float, str]:
    """As many as have room beside each other: all, or every second one from 0 on."""
    digits = 0 if reach > 0.06 else 1
    shares = ticks(-reach, reach, 5)
    texts = [f"{100 * x:+,.{digits}f} %".replace("-", "−") if x else "0" for x in shares]
    found, middle = list(zip(shares, texts, strict=True)), shares.index(0.0)
    apart = _x(shares[1], reach) - _x(shares[0], reach)
    every = 1 if apart > LETTER * max(map(len, texts)) else 2
    return dict(found[middle % every :: every])


def _short(name: str) -> str:
    """Both ends of a long one: names differ by their beginning, or by an option or router at the
    end."""
    if len(name) <= LONGEST:
        return name
    half = LONGEST // 2
    return f"{name[: half - 1]}…{name[-half:]}"
