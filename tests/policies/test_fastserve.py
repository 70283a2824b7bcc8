"""Feedback queues.  Headline: a lower mean latency than first come, first served on heavy tails,
and no prediction (Wu et al., arXiv:2305.05920v1: up to 5.1 times lower on average than Orca's)."""

import functools
import statistics

import pytest
from filler import a_request, a_scheduler, add, names, step
from heavy_tails import COST, SEATS, a_rush

from jpaged.errors import ConfigError
from jpaged.policies import FastServe, Fcfs
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.request import Sequence
from jpaged.simulator import Constant, Result, simulate


@functools.cache
def served(patience: float | None = 60.0) -> list[Result]:
    """Two workloads; None is first come, first served."""
    policy = Fcfs() if patience is None else FastServe(patience=patience)
    return [simulate(policy, a_rush(seed=seed), COST, **SEATS) for seed in (0, 1)]


def mean(results: list[Result], what: str) -> float:
    return statistics.mean(result.summary()[what] for result in results)


def test_mean_latency_falls_without_any_prediction():
    fcfs, fastserve = served(None), served()

    assert mean(fastserve, "latency_mean") < mean(fcfs, "latency_mean") / 1.3
    assert mean(fastserve, "latency_p50") < mean(fcfs, "latency_p50") / 4
    assert mean(fastserve, "ttft_mean") < mean(fcfs, "ttft_mean") / 20


def test_the_patient_are_promoted():
    # those who said nothing for 2 seconds start again, which costs the others little
    slow, promoted = served(), served(2.0)

    def longest_gap(results: list[Result]) -> float:
        return max(each.max_gap or 0.0 for result in results for each in result.ended)

    assert longest_gap(promoted) < 0.5 * longest_gap(slow)
    assert mean(promoted, "latency_mean") < 1.25 * mean(slow, "latency_mean")


def level(policy: FastServe, scheduler, said: int, prompt: int) -> float:
    sequence = Sequence(a_request("x", prompt=prompt, max_tokens=4000))
    sequence.tokens += [7] * said
    return policy.rank(sequence, scheduler.view(0.0))


def test_each_queue_gives_as_much_as_all_before_it():
    policy, scheduler = FastServe(quantum=10), a_scheduler()
    found = [level(policy, scheduler, said, 1) for said in (0, 9, 10, 19, 20, 39, 40, 79, 80)]

    assert found == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_a_long_prompt_skips_the_first_queues_by_what_the_cost_model_says():
    policy = FastServe(quantum=10)
    costs = Costs(Constant(step=0.0, token=0.01))  # each token of a prompt costs a decode step
    scheduler = a_scheduler(costs=costs)

    assert [level(policy, scheduler, 0, prompt) for prompt in (9, 10, 20, 45)] == [0, 1, 2, 3]


def test_a_newcomer_takes_the_seat_of_who_has_said_much():
    scheduler = a_scheduler(
        max_num_seqs=2, num_host_pages=8, swaps=False, policy=FastServe(quantum=2)
    )
    for name in "ab":
        add(scheduler, name, max_tokens=30)
    for _ in range(3):
        step(scheduler)
    add(scheduler, "c", max_tokens=30)
    batch = step(scheduler)

    assert names(batch.preempted) == "b"
    assert [sequence.request.id for sequence, _ in batch.swap_outs] == ["b"]
    step(scheduler)
    assert names(scheduler.running) == "ac"


@pytest.mark.parametrize("options", [{"quantum": 0}, {"patience": 0.0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match="at least 1 token, patience=.* above 0 seconds"):
        FastServe(**options)
