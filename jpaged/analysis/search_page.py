"""A search as one page, without a network: what the best is worth on requests it was not chosen on,
and how the trials lie over each parameter."""

from html import escape
from math import isnan, nan
from statistics import fmean

from jpaged.analysis.compare_page import SCRIPTS, told
from jpaged.analysis.frame import framed
from jpaged.analysis.intervals import glance, kind_of, pictures
from jpaged.analysis.numbers import better, change, number, words_of
from jpaged.analysis.tables import table
from jpaged.analysis.trial_pictures import trial_pictures, written
from jpaged.simulator.trials import BEST, Search, rank

SECTIONS = {
    "best": "Best",
    "unseen": "On requests it was not chosen on",
    "trials": "Trials",
    "table": "All trials",
}
# beside what was searched for and bounded: at what price
USUAL = ("ttft_p99", "ttft_max", "tpot_p99", "latency_mean", "tokens_per_second")


def search_page(found: Search, cost_model: str) -> str:
    """The page's HTML."""
    about = {
        "policy": found.policy,
        "searched for": f"{found.measure}, {better(found.measure)}",
        "constraints": ", ".join(map(str, found.constraints)) or "none",
        "trials": len(found.trials) - 1,
        "seeds": found.trials[0].num_seeds,
        "workloads": ", ".join(found.workloads),
        "cost model": cost_model,
    }
    parts = {
        "best": _best(found),
        "unseen": _unseen(found),
        "trials": trial_pictures(found),
        "table": f"<details><summary>{len(found.trials)} trials</summary>{_all(found)}</details>",
    }
    body = "".join(
        f'<section id="{name}"><h2>{SECTIONS[name]}</h2>{part}</section>'
        for name, part in parts.items()
    )
    return framed(f"Search: {found.policy}", about, SECTIONS, body, SCRIPTS)


def verdict(found: Search) -> str:
    """In a sentence."""
    if found.best.excess:
        bounds = " and ".join(map(str, found.constraints))
        return f"No trial keeps {bounds}; the best comes closest."
    if found.best.number == 0:
        return "No trial was better than the defaults."
    unseen = "; ".join(_worth(found, workload) for workload in found.held_out.workloads)
    return (
        f"{found.measure}: {change(found.best.score - 1)} in the search; on requests it did not "
        f"see {unseen}."
    )


def hints(found: Search) -> list[str]:
    """Where better parameters may lie that were not searched."""
    return [
        f"{name}={written(found.best.parameters[name])} is at an end of its range ({domain}): "
        "better ones may lie beyond it."
        for name, domain in found.at_ends.items()
    ]


def _worth(found: Search, workload: str) -> str:
    difference = found.held_out.difference(workload, BEST, found.measure)
    where = f" under {workload}" if len(found.held_out.workloads) > 1 else ""
    told = {
        "better": "better",
        "worse": "worse, it fits only what it was chosen on",
        "same": "one run tells no more" if isnan(difference.error) else "not beyond chance",
    }[kind_of(difference, found.measure)]
    return f"{change(difference.mean, difference.error)}{where}: {told}"


def _best(found: Search) -> str:
    rows = [
        (
            escape(name),
            escape(written(found.trials[0].parameters[name])),
            f"<b>{escape(written(value))}</b>",
            escape(str(found.space[name])),
        )
        for name, value in found.best.parameters.items()
    ]
    head = ("parameter", "default", "best", "searched")
    told = "".join(f'<p class="note">{escape(each)}</p>' for each in hints(found))
    return f"<p>{escape(verdict(found))}</p>{table(head, rows)}{told}"


def _unseen(found: Search) -> str:
    """The comparison, and whether the constraints hold there, too."""
    measures = tuple(dict.fromkeys((*found.measures, *USUAL)))
    parts = []
    for workload in found.held_out.workloads:
        parts.append(f'<h3 class="workload">{escape(workload)}</h3>')
        parts.append(f'<p class="note">{told(found.held_out, workload)}</p>')
        parts.append(glance(found.held_out, workload, measures))
        for bound in found.constraints:
            mean = found.held_out.estimate(workload, BEST, bound.measure).mean
            is_kept, unit = bound.holds(mean), words_of(bound.measure)[1]
            kind, said = ("better", "holds") if is_kept else ("worse", "does not hold")
            parts.append(
                f'<p class="note">{escape(str(bound))} <span class="{kind}">{said}</span>: '
                f"{number(mean, unit)} on average</p>"
            )
        parts.append(pictures(found.held_out, workload, measures))
    return "".join(parts)


def _all(found: Search) -> str:
    """A row a trial, the best first; of several workloads the means."""
    head = ["trial", *map(escape, (*found.space, *found.measures)), "against the defaults", "state"]
    rows = []
    for trial in sorted(found.trials, key=lambda each: rank(each, found.measure)):
        values = [escape(written(trial.parameters[name])) for name in found.space]
        means = [
            fmean(trial.mean(each, name) for each in found.workloads) for name in found.measures
        ]
        numbers = [
            number(mean, words_of(name)[1])
            for name, mean in zip(found.measures, means, strict=True)
        ]
        against = change(trial.score - 1 if trial.number else nan)
        state = BEST if trial.number == found.best.number else trial.state
        rows.append((str(trial.number), *values, *numbers, against, state))
    return table(head, rows)
