"""Workloads: the same for the same seed, and each part of them on its own."""

import math
import statistics
from itertools import pairwise

import pytest

from jpaged.sampling_params import SamplingParams
from jpaged.simulator.lengths import ALPACA, SHAREGPT
from jpaged.simulator.workload import VOCAB, generate


def lengths(workload) -> list[tuple[int, int]]:
    return [(len(request.prompt), request.num_output) for request in workload]


def test_a_seed_names_a_workload():
    assert generate(ALPACA, 20, 5.0, seed=1) == generate(ALPACA, 20, 5.0, seed=1)
    assert lengths(generate(ALPACA, 20, 5.0, 1)) != lengths(generate(ALPACA, 20, 5.0, 2))


def test_a_longer_workload_begins_as_the_shorter_one_does():
    assert generate(ALPACA, 40, 5.0, seed=1)[:20] == generate(ALPACA, 20, 5.0, seed=1)


def test_arrivals_are_poisson():
    arrivals = [request.arrival for request in generate(ALPACA, 5000, rate=4.0, seed=0)]
    gaps = [after - before for before, after in pairwise([0.0, *arrivals])]

    assert min(gaps) > 0
    assert statistics.mean(gaps) == pytest.approx(1 / 4, rel=0.06)
    assert statistics.stdev(gaps) == pytest.approx(1 / 4, rel=0.06)
    longer = sum(gap > 1 / 4 for gap in gaps) / len(gaps)
    assert longer == pytest.approx(math.exp(-1), abs=0.03)


def test_the_rate_changes_neither_lengths_nor_prompts():
    slow, fast = (generate(SHAREGPT, 30, rate, seed=0) for rate in (1.0, 10.0))
    assert [request.prompt for request in slow] == [request.prompt for request in fast]
    assert lengths(slow) == lengths(fast)


def test_a_shared_prefix_comes_before_every_prompt_and_prompts_differ_after_it():
    plain, shared = (generate(ALPACA, 30, 1.0, seed=0, num_shared=num) for num in (0, 40))

    assert len({request.prompt[:40] for request in shared}) == 1
    assert len({request.prompt[40:] for request in shared}) == 30
    assert [(a + 40, b) for a, b in lengths(plain)] == lengths(shared)
    assert all(0 <= token < VOCAB for request in shared for token in request.prompt)


def test_the_scheduler_is_not_told_how_much_a_request_will_say():
    timed = generate(ALPACA, 1, 1.0, seed=0, params=SamplingParams(n=3))[0]

    request = timed.as_request(context=500)

    assert request.max_tokens == 500 - len(timed.prompt) != timed.num_output
    assert (request.arrival, request.params.n) == (timed.arrival, 3)


def test_a_request_beyond_the_context_is_refused_with_numbers():
    timed = generate(ALPACA, 1, 1.0, seed=0, num_shared=2048)[0]
    with pytest.raises(ValueError, match=r"grows to 2\d+ tokens .* the context is 2048"):
        timed.as_request()
