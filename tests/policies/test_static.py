"""Request-level batches.  Headline: batches made at every iteration serve several times as much
(Orca, OSDI 2022: 36.9 times FasterTransformer, on GPT-3 175B and with a latency bound)."""

from random import Random

import pytest
from filler import a_scheduler, add, names, run

from jpaged.policies import Static
from jpaged.simulator import Constant, simulate
from jpaged.simulator.workload import TimedRequest

MEAN = 50  # tokens of an answer


def geometric_answers(num_requests: int, seed: int) -> list[TimedRequest]:
    """All there at once: each token is the last with a probability of 1 / MEAN."""
    rng = Random(seed)
    lengths = [1 + int(rng.expovariate(1 / MEAN)) for _ in range(num_requests)]
    return [TimedRequest(str(i), 0.0, (i, i), length) for i, length in enumerate(lengths)]


def test_a_batch_ends_before_the_next_begins():
    scheduler = a_scheduler(max_num_seqs=2, policy=Static())
    for name, max_tokens in zip("abcd", (4, 1, 1, 2), strict=True):
        add(scheduler, name, max_tokens=max_tokens)

    ran = [names(sequence for sequence, _ in batch.items) for batch in run(scheduler)]

    assert ran == ["ab", "a", "a", "a", "cd", "d"]


def test_who_was_evicted_comes_back_in_the_same_batch():
    scheduler = a_scheduler(num_pages=5, page_size=4, max_num_seqs=2, policy=Static())
    sequences = [add(scheduler, name, prompt=4, max_tokens=9) for name in "abcd"]

    batches = run(scheduler)

    assert any(batch.preempted for batch in batches)
    ends = [sequence.timing.last_token or 0.0 for sequence in sequences]
    assert max(ends[:2]) < min(ends[2:])


@pytest.mark.parametrize("seats", [8, 32])
def test_batches_of_iterations_serve_several_times_as_much(seats):
    # a batch lasts as long as its longest answer: of n exponential ones that is, in the mean, the
    # n-th harmonic number times an answer.  8: 2.7 times, 32: 4.1 times
    expected = sum(1 / n for n in range(1, seats + 1))
    workload = geometric_answers(30 * seats, seed=seats)

    static, fcfs = (
        simulate(
            policy, workload, Constant(0.01), max_num_seqs=seats, enable_prefix_caching=False
        ).seconds
        for policy in ("static", "fcfs")
    )

    # as iterations run dry at the end, a little less
    assert 0.8 * expected < static / fcfs < 1.05 * expected
