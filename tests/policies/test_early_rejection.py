"""EarlyRejection: under overload those who are let in are served in time.

Headline (Mooncake, FAST 2025, section 7): rejecting early, by predicted load, keeps goodput where
otherwise everybody is late.  Here, at twice what can be served: of all requests 19 % are in time
under FCFS, 55 % with early rejection, and of those let in all.
"""

from typing import Any

import pytest
from hurried import hurried

from jpaged.policies import EarliestDeadline, EarlyRejection, Fcfs, Sarathi
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.result import kept_promises
from jpaged.simulator.workload import TimedRequest

COSTS = Constant(step=0.01, token=1e-4)


def serve(policy: Policy, workload: list[TimedRequest], **options: Any) -> Result:
    return simulate(
        policy, workload, COSTS, enable_prefix_caching=False, max_num_batched_tokens=512, **options
    )


def num_kept(result: Result) -> int:
    return sum(map(kept_promises, result.ended))


@pytest.mark.parametrize("inner", [Fcfs(), Sarathi(), EarliestDeadline()])
def test_under_overload_those_let_in_are_in_time(inner):
    workload = hurried(90.0)

    alone = num_kept(serve(Fcfs(), workload))
    result = serve(EarlyRejection(inner), workload)

    assert len(result.ended) + len(result.refused) == 300
    assert num_kept(result) > 0.9 * len(result.ended)
    assert num_kept(result) > 2 * alone


def test_hardly_anybody_is_refused_where_everybody_can_be_served():
    result = serve(EarlyRejection(), hurried(10.0))

    assert len(result.refused) < 0.02 * 300


def test_a_pace_that_the_decodes_would_not_keep_is_refused_with_numbers():
    terms = Terms(tpot=0.0105)
    workload = [TimedRequest(str(i), 0.001 * i, (i, 5), 200, terms=terms) for i in range(20)]

    result = serve(EarlyRejection(), workload)

    # a step takes 10 ms and 0.1 ms a sequence: five keep that pace
    assert [name for name, _ in result.refused] == [str(i) for i in range(5, 20)]
    assert "tpot of 0.0105 s is promised and 0.0106 s predicted" in result.refused[0][1]
    assert num_kept(result) == 5


def test_who_was_promised_nothing_is_never_refused():
    workload = [TimedRequest(str(i), 0.0, (i, 5), 50) for i in range(40)]

    assert not serve(EarlyRejection(), workload, max_num_seqs=2).refused


def test_seats_are_foreseen_by_how_much_others_said():
    """One seat, 40 tokens of 10 ms each: the third would wait for 0.7 s, and the fourth, when he
    comes 50 ms later and the third has left, a little less."""
    terms = Terms(ttft=0.7, predicted_tokens=40)
    workload = [TimedRequest(str(i), 0.01 + 0.05 * i, (i, 5), 40, terms=terms) for i in range(4)]

    result = serve(EarlyRejection(), workload, max_num_seqs=1)

    assert [name for name, _ in result.refused] == ["2"]
    assert num_kept(result) == len(result.ended) == 3


def test_what_the_policy_inside_does_not_say_is_not_asked_either():
    policy = EarlyRejection(Fcfs())

    assert policy.evict_rank.__func__ is Fcfs.evict_rank  # pyright: ignore[reportFunctionMemberAccess]
