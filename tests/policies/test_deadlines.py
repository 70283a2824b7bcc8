"""Deadlines: who is due first goes first, and who is late anyway makes nobody else late.

Headline: below saturation earliest deadline first keeps more promises than FCFS; under overload it
keeps hardly any (the domino effect: those due first are late, and make the next ones late), and
demoting what cannot be kept any more cures it.  Here, shares of promises kept, at 35 and 90
requests a second where some 40 can be served: FCFS 0.56 and 0.19, EDF 1.00 and 0.05, with demotion
1.00 and 0.58, by slack the same.
"""

from functools import cache
from typing import Any

import pytest
from hurried import hurried

from jpaged.policies import EarliestDeadline, Fcfs, LeastSlack
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, simulate
from jpaged.simulator.result import kept_promises
from jpaged.simulator.workload import TimedRequest

COSTS = Constant(step=0.01, token=1e-4)
POLICIES: dict[str, Policy] = {
    "fcfs": Fcfs(),
    "edf": EarliestDeadline(demotes=False),
    "edf, demoting": EarliestDeadline(),
    "slack": LeastSlack(demotes=False),
    "slack, demoting": LeastSlack(),
}


@cache
def share_kept(name: str, rate: float) -> float:
    result = simulate(
        POLICIES[name],
        hurried(rate),
        COSTS,
        max_num_batched_tokens=512,
        enable_prefix_caching=False,
    )
    return sum(map(kept_promises, result.ended)) / len(result.ended)


@pytest.mark.parametrize("name", ["edf", "edf, demoting", "slack", "slack, demoting"])
def test_below_saturation_deadlines_keep_more_promises_than_fcfs(name):
    assert share_kept(name, 35.0) > 1.3 * share_kept("fcfs", 35.0)


@pytest.mark.parametrize("name", ["edf", "slack"])
def test_under_overload_plain_deadlines_collapse_and_demotion_cures_them(name):
    assert share_kept(name, 90.0) < share_kept("fcfs", 90.0)
    assert share_kept(f"{name}, demoting", 90.0) > 2 * share_kept("fcfs", 90.0)


def test_by_slack_a_long_prompt_starts_before_a_short_one_that_is_due_a_little_sooner():
    """Alone on the machine each would be in time; one order serves both, the other does not."""

    def first(policy: Policy) -> str:
        workload = [
            TimedRequest("before", 0.0, tuple(range(100)), 2),
            TimedRequest("short", 0.001, tuple(range(200, 210)), 2, terms=Terms(ttft=2.0)),
            TimedRequest("long", 0.002, tuple(range(1000, 2600)), 2, terms=Terms(ttft=2.1)),
        ]
        options: dict[str, Any] = {"max_num_batched_tokens": 128, "max_num_seqs": 1}
        ended = simulate(policy, workload, Constant(0.02, 5e-4), **options).ended
        return next(each.request_id for each in ended if each.request_id != "before")

    assert first(EarliestDeadline()) == "short"
    assert first(LeastSlack()) == "long"


def test_without_promises_it_is_first_come_first_served():
    workload = [TimedRequest(str(i), 0.0, (i, 7), 3) for i in range(9)]

    ends = [
        [each.request_id for each in simulate(policy, workload, COSTS, max_num_seqs=2).ended]
        for policy in POLICIES.values()
    ]

    assert all(end == ends[0] for end in ends)
