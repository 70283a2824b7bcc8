"""What `jpaged compare --help` and `search --help` list: everything that can be named, as one
writes it, with what it takes and the defaults.

It is looked up when somebody asks for it: no other command should wait for it.
"""

import argparse
import textwrap
from collections.abc import Iterable

LISTS = "lists"  # stands for all of them in a parser that says `HelpWithLists`
WIDTH = 99


class HelpWithLists(argparse.RawDescriptionHelpFormatter):
    """Ends with them."""

    def add_text(self, text: str | None) -> None:
        super().add_text(lists() if text == LISTS else text)


def lists() -> str:
    """A paragraph a kind."""
    from jpaged.policies import NAMES as POLICIES
    from jpaged.simulator.grammar import OBJECTS, spelled
    from jpaged.simulator.measures import MEASURES, MORE_IS_BETTER, OF_ALL
    from jpaged.simulator.routers import NAMES as ROUTERS
    from jpaged.simulator.specs import ASKED, COST_MODELS, ENGINE_OPTIONS, UNWRITTEN, WORKLOADS
    from jpaged.simulator.workload import from_trace

    objects = {*OBJECTS} - {each.__name__ for each in (*POLICIES.values(), *ROUTERS.values())}
    but, more, less = (*UNWRITTEN, "max_len"), [], []
    for measure in MEASURES:
        (more if measure in MORE_IS_BETTER else less).append(measure)
    parts = {
        "policies, with what they take and its defaults": [
            *(spelled(name, make) for name, make in POLICIES.items()),
            "mine.py:MyPolicy    package.module:MyPolicy:parameter=3",
        ],
        "workloads, where … has to be said, or the file of a trace": [
            *(spelled(name, make, but) for name, make in WORKLOADS.items()),
            spelled("trace.csv", from_trace, but),
            "how long a request or session may grow, if not to the engine's max_model_len: max_len",
            f"whose, and with what promises: {', '.join(ASKED)}",
            "several together: poisson:…,client=a + sessions:…,client=b",
        ],
        "routers, of several replicas": [
            *(spelled(name, make) for name, make in ROUTERS.items()),
            "mine.py:MyRouter",
        ],
        "cost models": [
            *(spelled(name, make) for name, make in COST_MODELS.items()),
            "costs.json, which `jpaged calibrate` writes",
        ],
        "values": [
            "numbers, words, lists as [20,700], and as in Python Uniform(20,700): "
            f"{', '.join(sorted(objects))}, policies and routers",
        ],
        "options": [", ".join(ENGINE_OPTIONS)],
        "measures": [
            f"more is better: {', '.join(more)}",
            f"less is better: {', '.join(less)}",
            f"of one client, as in ttft_p99@chat: all but {', '.join(sorted(OF_ALL))}",
        ],
    }
    return "\n\n".join(f"{title}:\n{_indented(lines)}" for title, lines in parts.items())


def _indented(lines: Iterable[str]) -> str:
    """Long ones go on further in."""
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            initial_indent="  ",
            subsequent_indent="      ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for line in lines
    )
