"""Classes of urgency.  Headline: the urgent hardly notice how full it is, the patient pay for it,
and with ageing nobody starves."""

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from filler import a_scheduler, add, names, step

from jpaged.policies import Fcfs, Policy, Priority
from jpaged.simulator import Constant, simulate
from jpaged.simulator.lengths import Conversations, Lengths
from jpaged.simulator.workload import TimedRequest, generate

LAW = Conversations("chat", Lengths(64, 0.5, 256), Lengths(80, 0.8, 600))
COST = Constant(0.02, 0.0001)
SEATS: dict[str, Any] = {"max_num_seqs": 16, "num_pages": 2000}  # they serve 9 requests a second
LIGHT, FULL = 4.0, 12.0


def two_classes(rate: float, share_urgent: float = 0.2, num: int = 300) -> list[TimedRequest]:
    """One request in five is of priority 0, the others of 1, whatever the rate."""
    rng = Random(3)
    requests = generate(LAW, num, rate, seed=0)
    return [replace(each, priority=int(rng.random() >= share_urgent)) for each in requests]


def waits(policy: Policy, workload: list[TimedRequest]) -> tuple[list[float], list[float]]:
    """Seconds to the first token, the shortest first, of the urgent and of the patient."""
    ended = simulate(policy, workload, COST, **SEATS).ended
    urgent, patient = (
        sorted(each.ttft or 0.0 for each in ended if each.priority == level) for level in (0, 1)
    )
    return urgent, patient


def p99s(policy: Policy, rate: float) -> tuple[float, float]:
    urgent, patient = waits(policy, two_classes(rate))
    return urgent[int(0.99 * len(urgent))], patient[int(0.99 * len(patient))]


def test_the_urgent_stay_fast_while_the_patient_wait():
    (urgent, _), (urgent_full, patient_full) = (p99s(Priority(), rate) for rate in (LIGHT, FULL))
    fcfs_full, _ = p99s(Fcfs(), FULL)

    assert urgent_full < 3 * urgent
    assert patient_full > 30 * urgent_full
    assert fcfs_full > 30 * urgent_full


def test_pushing_out_is_what_keeps_them_fast():
    pushing, waiting_for_a_seat = (
        p99s(Priority(preempts=preempts), FULL)[0] for preempts in (True, False)
    )

    assert waiting_for_a_seat > 3 * pushing


def test_who_is_urgent_takes_a_seat_but_not_from_the_eldest_nor_an_equal():
    scheduler = a_scheduler(max_num_seqs=3, policy=Priority(math.inf))
    for name, priority in (("a", 9), ("b", 1), ("c", 2)):
        add(scheduler, name, max_tokens=30, priority=priority)
        step(scheduler)
    for name, priority in (("d", 0), ("e", 1), ("f", 1)):
        add(scheduler, name, max_tokens=30, priority=priority)

    gone = [names(step(scheduler).preempted) for _ in range(4)]

    assert gone == ["c", "", "", ""]
    assert names(scheduler.running) == "abd"


def test_nobody_is_pushed_out_for_who_would_find_no_room_even_then():
    scheduler = a_scheduler(num_pages=10, page_size=4, policy=Priority())
    add(scheduler, "a", prompt=20, max_tokens=9, priority=0)
    add(scheduler, "b", prompt=8, max_tokens=9, priority=5)
    step(scheduler)
    add(scheduler, "c", prompt=24, max_tokens=9, priority=1)

    assert not step(scheduler).preempted


@pytest.mark.parametrize(("aging", "starves"), [(math.inf, True), (5.0, False)])
def test_ageing_prevents_starvation(aging, starves):
    """The urgent alone are more than can be served, for a minute."""
    rush = two_classes(rate=11.0, share_urgent=0.95, num=660)

    urgent, patient = waits(Priority(aging), rush)

    assert (patient[-1] > 3 * urgent[-1]) is starves
