"""Whose prefix is cached goes first.  Headlines: where the cache is small, a higher hit rate and
throughput than first come, first served (Zheng et al., NeurIPS 2024: up to 6.4 times, other things
included); who shares nothing starves, and ageing is the cure."""

import functools
import statistics
from random import Random

import pytest
from filler import a_scheduler, add, names, step

from jpaged.errors import ConfigError
from jpaged.policies import Fcfs, LongestPrefixMatch
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View
from jpaged.simulator import Constant, simulate
from jpaged.simulator.workload import TimedRequest

COST = Constant(0.01, 0.0002)


def tokens(rng: Random, count: int) -> tuple[int, ...]:
    return tuple(rng.choices(range(32000), k=count))


def a_tree(num_requests: int, rate: float, num_trunks: int = 12) -> list[TimedRequest]:
    """Trunks of 512 tokens, three branches of 256 on each, and 32 of one's own."""
    rng, now = Random(0), 0.0
    trunks = [tokens(rng, 512) for _ in range(num_trunks)]
    paths = [trunk + tokens(rng, 256) for trunk in trunks for _ in range(3)]
    workload = []
    for index in range(num_requests):
        now += rng.expovariate(rate)
        prompt = rng.choice(paths) + tokens(rng, 32)
        workload.append(TimedRequest(str(index), now, prompt, rng.randint(12, 48)))
    return workload


def with_strangers(num_requests: int, rate: float) -> list[TimedRequest]:
    """Two prefixes of 768 tokens that nearly all share; one in twenty, a stranger, has its own."""
    rng, now = Random(0), 0.0
    known = [tokens(rng, 768) for _ in range(2)]
    workload = []
    for index in range(num_requests):
        now += rng.expovariate(rate)
        is_stranger = rng.random() < 0.05
        first = tokens(rng, 768) if is_stranger else rng.choice(known)
        name = f"{'stranger' if is_stranger else 'friend'} {index}"
        workload.append(TimedRequest(name, now, first + tokens(rng, 32), rng.randint(12, 48)))
    return workload


@functools.cache
def waits(aging: float | None) -> tuple[float, float]:
    """The longest wait of a stranger for the first token, and the mean of all; None is FCFS."""
    policy = Fcfs() if aging is None else LongestPrefixMatch(aging)
    workload = with_strangers(500, rate=20.0)  # as much as can be served
    result = simulate(policy, workload, COST, max_num_seqs=8, num_pages=800)
    ttfts = {each.request_id: each.ttft or 0.0 for each in result.ended}
    strangers = [ttft for name, ttft in ttfts.items() if name.startswith("stranger")]
    return max(strangers), statistics.mean(ttfts.values())


def test_a_small_cache_hits_more_often_and_serves_more():
    # the tree has 768 pages, the cache 400
    fcfs, lpm = (
        simulate(policy, a_tree(400, rate=30.0), COST, max_num_seqs=16, num_pages=400).summary()
        for policy in (Fcfs(), LongestPrefixMatch())
    )

    assert lpm["hit_rate"] > fcfs["hit_rate"] + 0.25
    assert lpm["tokens_per_second"] > 1.6 * fcfs["tokens_per_second"]


def test_strangers_starve_and_ageing_is_the_cure():
    fcfs, lpm, guarded = waits(None), waits(0.0), waits(200.0)

    assert lpm[0] > 3 * fcfs[0]
    assert guarded[0] < 0.5 * lpm[0]
    assert lpm[1] < guarded[1] < fcfs[1]


def test_the_longest_match_goes_first():
    scheduler = a_scheduler(max_num_seqs=1, policy=LongestPrefixMatch())
    prefix = tuple(range(16))
    add(scheduler, "z", prompt=prefix, max_tokens=1)
    step(scheduler)
    for name, shared in (("a", 0), ("b", 8), ("c", 16)):
        rest = tuple(range(100 * ord(name), 100 * ord(name) + 20 - shared))
        add(scheduler, name, prompt=prefix[:shared] + rest, max_tokens=1)

    ran = [names(sequence for sequence, _ in step(scheduler).items) for _ in range(3)]

    assert ran == ["c", "b", "a"]


def test_a_step_asks_the_cache_a_few_times_at_most_and_everyone_in_turn(monkeypatch):
    asked: list[str] = []
    probe = View.num_cached_pages

    def noted(view: View, sequence: Sequence) -> int:
        asked.append(sequence.request.id)
        return probe(view, sequence)

    monkeypatch.setattr(View, "num_cached_pages", noted)
    policy = LongestPrefixMatch(most=6, probes=4)
    # there is a seat, and no page for any of them
    scheduler = a_scheduler(num_pages=3, page_size=4, policy=policy, max_num_batched_tokens=12)
    add(scheduler, "z", prompt=9, max_tokens=3)
    step(scheduler)
    for name in "abcdefgh":
        add(scheduler, name, prompt=9, max_tokens=3)
    asked.clear()
    for _ in range(2):
        step(scheduler)

    assert asked == [*"abcd", *"efab"]


@pytest.mark.parametrize("options", [{"aging": -1.0}, {"most": 0}, {"probes": 0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match="at least 0 tokens a second"):
        LongestPrefixMatch(**options)
