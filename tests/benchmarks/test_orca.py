"""The contiguous baselines: what they hold, and how it is accounted."""

from dataclasses import astuple

import pytest
from orca import RESERVATIONS, Orca, replay_orca

from jpaged.analysis.memory import Slots
from jpaged.simulator.lengths import CONTEXT, SHAREGPT
from jpaged.simulator.workload import TimedRequest, generate


def a_request(name: str, num_prompt: int, num_output: int, arrival: float = 0.0) -> TimedRequest:
    return TimedRequest(name, arrival, tuple(range(num_prompt)), num_output)


def serve(requests, reservation: str, num_slots: int, max_seqs: int = 8) -> list[Slots]:
    orca = Orca(num_slots, RESERVATIONS[reservation], max_seqs)
    steps = list(replay_orca(requests, orca, lambda num_new, num_read: 1.0))
    assert orca.buddy.num_free == num_slots
    return steps


def states(step: Slots) -> tuple[int, ...]:
    """(tokens, reserved, internal, external, free)"""
    return astuple(step)[3:]


@pytest.mark.parametrize(
    ("reservation", "internal", "external"),
    # 5 prompt tokens and 4 of the 5 outputs fill 9 slots at the end, and 16 are given
    [("pow2", 5 + 8 - 9, 16 - 13), ("oracle", 0, 16 - 9)],
)
def test_a_step_is_accounted_slot_by_slot(reservation, internal, external):
    steps = serve([a_request("a", 5, 5)], reservation, num_slots=32)

    assert [states(step) for step in steps] == [
        (tokens, 9 - tokens, internal, external, 16) for tokens in (5, 6, 7, 8, 9)
    ]


def test_max_reserves_the_context_whatever_comes():
    steps = serve([a_request("a", 5, 2)], "max", num_slots=CONTEXT)

    assert [states(step) for step in steps] == [
        (tokens, 6 - tokens, CONTEXT - 6, 0, 0) for tokens in (5, 6)
    ]


def test_free_slots_are_external_fragmentation_only_to_someone_who_waits():
    requests = [a_request("a", 9, 2), a_request("b", 9, 2), a_request("c", 17, 1)]

    steps = serve(requests, "oracle", num_slots=48)

    # 48 are pieces of 32 and 16: a gets the 16, b splits the 32, and c would need all of it
    assert [step.num_waiting for step in steps] == [1, 1, 0]
    assert [step.free for step in steps] == [0, 0, 16]
    assert steps[0].external == 2 * (16 - 10) + 16


def test_requests_run_in_order_of_arrival_and_wait_for_theirs():
    requests = [a_request("a", 1, 1), a_request("b", 1, 1, arrival=7.5)]

    steps = serve(requests, "oracle", num_slots=4)

    assert [(step.start, step.end) for step in steps] == [(0.0, 1.0), (7.5, 8.5)]


@pytest.mark.parametrize("reservation", RESERVATIONS)
def test_the_states_always_add_up_to_the_cache(reservation):
    workload = generate(SHAREGPT, 40, rate=12.0, seed=3)

    steps = serve(workload, reservation, num_slots=15_728)

    assert {sum(states(step)) for step in steps} == {15_728}
    assert all(min(states(step)) >= 0 for step in steps)
    # a step computes one token a request, but for its first, which computes the prompt
    assert sum(step.end - step.start for step in steps) == len(steps)
    assert max(step.tokens for step in steps) > 0
