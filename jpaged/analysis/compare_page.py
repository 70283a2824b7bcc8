"""A comparison as one page, without a network: for each measure, how far every policy is from the
first one, and how sure that is."""

from collections.abc import Sequence
from html import escape

from jpaged.analysis.frame import framed
from jpaged.analysis.intervals import glance, pictures
from jpaged.simulator.compare import Comparison

SCRIPTS = ("tips.js",)


def compare_page(found: Comparison, measures: Sequence[str], cost_model: str) -> str:
    """The page's HTML."""
    sections = {f"w{index}": workload for index, workload in enumerate(found.workloads)}
    body = "".join(
        f'<section id="{name}"><h2>{escape(workload)}</h2><p class="note">{told(found, workload)}'
        f"</p>{glance(found, workload, measures)}{pictures(found, workload, measures)}</section>"
        for name, workload in sections.items()
    )
    about = {"policies": ", ".join(found.policies), "cost model": cost_model}
    return framed("Policies compared", about, sections, body, SCRIPTS)


def told(found: Comparison, workload: str) -> str:
    """What a reader has to know to read the numbers."""
    count, first = found.num_seeds(workload), f"<b>{escape(found.policies[0])}</b>"
    if count < 2:
        return (
            f"One run each, against {first} on the same requests: what chance does to the "
            "differences is not known."
        )
    return (
        f"Against {first}, on the same requests, over {count} seeds. "
        '<span class="better">Better</span> and <span class="worse">worse</span> where the '
        'difference is beyond chance, <span class="same">grey</span> where it is not; bars hold '
        "the truth with 95 % confidence."
    )
