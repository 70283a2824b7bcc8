"""Shortest jobs first.  Headlines: who knows the lengths serves at a fraction of the mean latency
of first come, first served; the worse the prediction, the less (Fu et al., NeurIPS 2024; Shahout
et al., ICLR 2025).  The longest pay for it, and starve without ageing."""

import functools
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
from filler import a_request, a_scheduler, add, names, step
from heavy_tails import COST, SEATS, a_rush

from jpaged.errors import ConfigError
from jpaged.policies import Fcfs, Learned, Noisy, Oracle, Policy, ShortestJob, ShortestRemaining
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.terms import Terms
from jpaged.simulator import simulate
from jpaged.simulator.workload import TimedRequest, foretold

MAKERS: dict[str, Callable[[], Policy]] = {
    "fcfs": Fcfs,
    "job": lambda: ShortestJob(Oracle()),
    "remaining": lambda: ShortestRemaining(Oracle()),
    "noisy 1": lambda: ShortestRemaining(Noisy(1.0)),
    "noisy 4": lambda: ShortestRemaining(Noisy(4.0)),
    "aged": lambda: ShortestJob(Oracle(), aging=100.0),
}


@functools.cache
def mean_latency(name: str) -> float:
    """Of a rush that is the same for all."""
    workload = a_rush(num_requests=300)
    return simulate(MAKERS[name](), workload, COST, **SEATS).summary()["latency_mean"]


def a_sequence(name: str = "a", said: int = 0, client: str = "", **terms) -> Sequence:
    request = a_request(name, max_tokens=1000)
    sequence = Sequence(replace(request, terms=Terms(client=client, **terms)))
    sequence.tokens += [7] * said
    return sequence


def test_who_knows_the_lengths_halves_the_mean_latency():
    assert mean_latency("job") < mean_latency("fcfs") / 1.8
    assert mean_latency("remaining") < mean_latency("job")


def test_the_gain_shrinks_as_predictions_get_worse():
    latencies = [mean_latency(name) for name in ("remaining", "noisy 1", "noisy 4", "fcfs")]

    assert latencies == sorted(latencies)
    assert latencies[1] < 1.3 * latencies[0]


def test_the_longest_wait_for_all_others_unless_they_age():
    """Where the seats are just enough, all the while."""
    workload = a_rush(rate=9.0, num_requests=400, seed=1)
    results = {
        name: simulate(MAKERS[name](), workload, COST, **SEATS) for name in ("fcfs", "job", "aged")
    }
    longest = {name: max(each.ttft or 0.0 for each in results[name].ended) for name in results}
    latency = {name: results[name].summary()["latency_mean"] for name in results}

    assert longest["job"] > 3 * longest["fcfs"]
    assert longest["aged"] < 0.6 * longest["job"]
    assert latency["job"] < latency["aged"] < latency["fcfs"]


def two_clients() -> list[TimedRequest]:
    """Every other answer of the rush is cut to 20 tokens, and its client says so."""
    terse, wordy = Terms(client="terse"), Terms(client="wordy")
    return [
        replace(each, terms=terse, num_output=min(20, each.num_output))
        if index % 2
        else replace(each, terms=wordy, num_output=max(60, each.num_output))
        for index, each in enumerate(a_rush(rate=14.0))
    ]


def test_lengths_can_be_learned_from_who_asks():
    def latency(policy: Policy, workload) -> float:
        return simulate(policy, workload, COST, **SEATS).summary()["latency_mean"]

    workload = two_clients()
    fcfs, learned = latency(Fcfs(), workload), latency(ShortestJob(Learned()), workload)
    oracle = latency(ShortestJob(Oracle()), foretold(workload))

    # about half of what there is to gain: who it is says which kind, not which length
    assert fcfs - learned > 0.4 * (fcfs - oracle)


def test_the_fewest_tokens_left_go_first_and_push_out_who_is_early_in_life():
    scheduler = a_scheduler(max_num_seqs=2, policy=ShortestRemaining(Oracle()))
    for name, max_tokens in (("eldest", 90), ("b", 10)):
        add(scheduler, name, max_tokens=max_tokens)
        step(scheduler)
    for _ in range(3):  # b has said 4 of 10: 6 are left
        step(scheduler)
    add(scheduler, "c", max_tokens=6)
    assert not step(scheduler).preempted  # b has 5 to go
    add(scheduler, "d", max_tokens=3)
    assert names(step(scheduler).preempted) == "b"
    step(scheduler)

    assert [sequence.request.id for sequence in scheduler.running] == ["eldest", "d"]


def test_who_is_late_in_life_is_left_in_peace():
    scheduler = a_scheduler(max_num_seqs=2, policy=ShortestRemaining(Oracle(), early=0.5))
    for name, max_tokens in (("eldest", 90), ("b", 10)):
        add(scheduler, name, max_tokens=max_tokens)
        step(scheduler)
    for _ in range(5):
        step(scheduler)
    add(scheduler, "c", max_tokens=1)

    assert not step(scheduler).preempted


def test_who_says_more_than_was_expected_is_believed_to_be_half_way():
    policy = ShortestJob(Oracle())
    sequence = a_sequence(predicted_tokens=10.0)

    assert policy.expect(sequence) == 10
    sequence.tokens += [7] * 10
    assert policy.expect(sequence) == 20
    sequence.tokens += [7] * 9
    assert policy.expect(sequence) == 20
    policy.on_finish(sequence, 0.0)
    assert not policy.expected


def test_a_prediction_that_came_with_the_request_is_preferred_to_what_was_learned():
    policy = ShortestJob()
    for _ in range(8):
        policy.on_finish(a_sequence(said=40), now=0.0)

    assert policy.expect(a_sequence("a")) == 40
    assert policy.expect(a_sequence("b", predicted_tokens=7.0)) == 7


def test_noise_is_the_same_each_time_and_log_normal():
    sequences = [a_sequence(str(i), predicted_tokens=100.0) for i in range(500)]
    errors = [Noisy(0.5).predict(each) / 100 for each in sequences]

    assert errors == [Noisy(0.5).predict(each) / 100 for each in sequences]
    assert errors != [Noisy(0.5, seed=1).predict(each) / 100 for each in sequences]
    assert statistics.median(errors) == pytest.approx(1, rel=0.1)
    assert statistics.quantiles(errors, n=100)[83] == pytest.approx(2.718**0.5, rel=0.15)


def test_what_is_learned_is_of_the_like_and_of_those_who_went_on_as_long():
    predictor = Learned(few=4)
    assert predictor.predict(a_sequence(client="x")) == predictor.prior
    for said in (10, 20, 30, 40):
        predictor.learn(a_sequence(said=said, client="x"))

    assert predictor.predict(a_sequence(client="x")) == 30
    assert predictor.predict(a_sequence(client="x", said=30)) == 40
    assert predictor.predict(a_sequence(client="somebody else")) == 30
    assert predictor.predict(a_sequence(client="x", said=40)) == predictor.prior


def test_only_the_latest_lengths_are_remembered():
    predictor = Learned(most=3)
    for said in range(10):
        predictor.learn(a_sequence(said=said))

    assert predictor.said[()] == deque([7, 8, 9])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noisy(-1), "sigma must be at least 0"),
        (lambda: Learned(quantile=1), "quantile must be at least 0 and below 1, not 1"),
        (lambda: ShortestJob(aging=-1), "aging must be at least 0 tokens a second, not -1"),
        (lambda: ShortestRemaining(early=2), "early must be a share from 0 to 1, not 2"),
    ],
)
def test_options_that_cannot_be_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
