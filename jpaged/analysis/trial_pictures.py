"""The trials of a search, drawn: in their order, and over each of the parameters."""

from collections.abc import Sequence
from html import escape
from math import isfinite

from jpaged.analysis.numbers import better, change, number, words_of
from jpaged.analysis.pictures import Axis, Dot, Line, figure, scatter, steps
from jpaged.simulator.spaces import Range
from jpaged.simulator.trials import Search, Trial, rank

KINDS = {
    "default": "the defaults",
    "kept": "a trial",
    "over": "oversteps a constraint",
    "pruned": "given up before its last seed",
    "best": "the best",
}
ORDER = ("pruned", "over", "kept", "default", "best")  # the last lies on top


def trial_pictures(found: Search) -> str:
    """Trial by trial, and over each parameter."""
    drawn = [each for each in found.trials if isfinite(each.score)]
    failed = len(found.trials) - len(drawn)
    more = f" {failed} trials are not drawn: the measure had no value." if failed else ""
    y = _axis(found, drawn)
    figures = [_over_time(found, drawn, y)]
    figures += [_over_parameter(found, drawn, y, name) for name in found.space]
    return (
        f'<p class="note">The line is the best so far, dashed the defaults.{more}</p>'
        f'<div class="legend">{_keys(found, drawn)}</div>'
        f'<div class="grid pictures">{"".join(figures)}</div>'
    )


def _over_time(found: Search, drawn: Sequence[Trial], y: Axis) -> str:
    x = Axis("trial", -0.5, len(found.trials) - 0.5)
    ranks, so_far = [], []
    for trial in drawn:
        ranks.append(rank(trial, found.measure))
        if min(ranks) == ranks[-1] and not trial.excess:
            so_far.append((float(trial.number), _height(found, trial)))
    lines = [Line(steps([*so_far, (x.high, so_far[-1][1])]), "best-line")] if so_far else []
    level = _height(found, found.trials[0])
    lines.insert(0, Line([(x.low, level), (x.high, level)], "default-line"))
    dots = [_dot(found, trial, float(trial.number)) for trial in _sorted(found, drawn)]
    picture = scatter(f"{found.measure} of each trial", x, y, dots, lines)
    return _figure(found, "trial by trial", picture)


def _over_parameter(found: Search, drawn: Sequence[Trial], y: Axis, name: str) -> str:
    x = _parameter_axis(found, name)
    dots = [
        _dot(found, trial, place)
        for trial in _sorted(found, drawn)
        if (place := _place(found, name, trial)) is not None
    ]
    picture = scatter(f"{found.measure} over {name}", x, y, dots)
    return _figure(found, f"over <code>{escape(name)}</code>", picture)


def _parameter_axis(found: Search, name: str) -> Axis:
    domain = found.space[name]
    if isinstance(domain, Range):
        room = 0.0 if domain.is_log else 0.03 * (domain.high - domain.low)
        stretch = 1.08 if domain.is_log else 1.0
        low, high = domain.low / stretch - room, domain.high * stretch + room
        return Axis(name, low, high, is_log=domain.is_log)
    names = tuple(map(written, domain.options))
    return Axis(name, -0.5, len(names) - 0.5, names=names)


def _place(found: Search, name: str, trial: Trial) -> float | None:
    """Where a trial lies over a parameter; the defaults may lie outside of what was searched."""
    domain, value = found.space[name], trial.parameters[name]
    if isinstance(domain, Range):
        is_inside = isinstance(value, int | float) and domain.low <= value <= domain.high
        return float(value) if is_inside else None  # pyright: ignore[reportArgumentType]
    return float(domain.options.index(value)) if value in domain else None


def _sorted(found: Search, drawn: Sequence[Trial]) -> list[Trial]:
    return sorted(drawn, key=lambda trial: ORDER.index(_kind(found, trial)))


def _kind(found: Search, trial: Trial) -> str:
    if trial.number == found.best.number:
        return "best"
    return "default" if trial.number == 0 else trial.state


def _dot(found: Search, trial: Trial, x: float) -> Dot:
    name = "the defaults" if trial.number == 0 else f"trial {trial.number}"
    values = ", ".join(f"{key}={written(value)}" for key, value in trial.parameters.items())
    lines = [f"{name}: {values}"]
    for workload in found.workloads:
        means = [
            f"{measure} {number(trial.mean(workload, measure), words_of(measure)[1])}"
            for measure in found.measures
        ]
        lines.append(", ".join(means) + (f" under {workload}" if len(found.workloads) > 1 else ""))
    if trial.is_pruned:
        lines.append(f"given up after {trial.num_seeds} of {found.trials[0].num_seeds} seeds")
    elif trial.number:
        lines.append(f"{change(trial.score - 1)} against the defaults")
    return Dot(x, _height(found, trial), _kind(found, trial), "\n".join(lines))


def _height(found: Search, trial: Trial) -> float:
    """The measure, as far as it is comparable: of some of the seeds, what it would be if they stood
    to the defaults as all do; over several workloads, its share of the defaults'."""
    workload, *others = found.workloads
    return trial.score * (1 if others else found.trials[0].mean(workload, found.measure))


def _axis(found: Search, drawn: Sequence[Trial]) -> Axis:
    unit = "%" if len(found.workloads) > 1 else words_of(found.measure)[1]
    return Axis.over(found.measure, [_height(found, trial) for trial in drawn], unit)


def _figure(found: Search, more: str, picture: str) -> str:
    text = words_of(found.measure)[0]
    share = "as a share of the defaults', over all workloads; " if len(found.workloads) > 1 else ""
    title = f"{escape(text[0].upper() + text[1:])}, {more}"
    return figure(title, share + better(found.measure), picture)


def _keys(found: Search, drawn: Sequence[Trial]) -> str:
    there = {_kind(found, trial) for trial in drawn}
    shapes = {"over": '<path d="M3,3l8,8m0,-8l-8,8"/>'}
    circle = '<circle cx="7" cy="7" r="4.5"/>'
    return "".join(
        f'<span class="key"><svg viewBox="0 0 14 14" aria-hidden="true"><g class="{kind}">'
        f"{shapes.get(kind, circle)}</g></svg>{text}</span>"
        for kind, text in KINDS.items()
        if kind in there
    )


def written(value: object) -> str:
    """A parameter's value."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
