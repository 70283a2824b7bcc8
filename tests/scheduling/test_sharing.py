"""Copy-on-write in single cases: who shares what, and what is copied when."""

from dataclasses import replace

import pytest
from filler import a_request, a_scheduler, add, run, step

from jpaged.policies import Fcfs
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import StepOutput
from jpaged.scheduling.scheduler import Scheduler

SYSTEM = tuple(range(100, 112))  # three pages of four


def samples(scheduler: Scheduler, n: int, prompt: tuple[int, ...], max_tokens: int = 8) -> list:
    request = replace(a_request("a", prompt, max_tokens=max_tokens), params=SamplingParams(n=n))
    return scheduler.add(request)


def held(scheduler: Scheduler) -> int:
    return scheduler.pool.num_held


@pytest.mark.parametrize("has_cache", [True, False])
def test_a_prompt_is_computed_once_and_each_sample_gets_a_tail(has_cache):
    scheduler = a_scheduler(num_pages=40, enable_prefix_caching=has_cache)
    sequences = samples(scheduler, 8, (*SYSTEM, 1, 2))

    first = step(scheduler)

    assert [count for _, count in first.items] == [14] + [1] * 7
    assert held(scheduler) == 4 and not first.page_copies
    assert all(sequence.pages == sequences[0].pages for sequence in sequences)

    second = step(scheduler)

    tail = sequences[-1].pages[3]
    # the last one to write has the page to itself by then
    assert [source for source, _ in second.page_copies] == [tail] * 7
    assert held(scheduler) == 3 + 8
    assert not step(scheduler).page_copies


def test_nothing_is_copied_where_the_prompt_ends_with_a_page():
    scheduler = a_scheduler(num_pages=40)
    samples(scheduler, 4, SYSTEM)
    batches = [step(scheduler) for _ in range(3)]
    assert not any(batch.page_copies for batch in batches)
    assert held(scheduler) == 3 + 4


def test_a_fork_that_is_dropped_before_it_writes_costs_no_copy():
    scheduler = a_scheduler(num_pages=40)
    parent = add(scheduler, "a", (*SYSTEM, 1), max_tokens=9)
    step(scheduler)
    child = scheduler.fork(parent, replace(parent.request, id="b"))
    assert held(scheduler) == 4 and scheduler.pool.holders[parent.pages[3]] == 2

    scheduler.finish(child, "abort")

    assert not step(scheduler).page_copies
    assert scheduler.pool.holders[parent.pages[3]] == 1


def test_a_forks_first_token_is_its_own_and_reads_its_parents_page():
    scheduler = a_scheduler(num_pages=40)
    parent = add(scheduler, "a", (*SYSTEM, 1), max_tokens=9)
    step(scheduler)
    child = scheduler.fork(parent, replace(parent.request, id="b"))

    batch = step(scheduler)

    # the parent's known token is pending for both: neither has it in its pages yet
    assert dict(batch.items) == {parent: 1, child: 1}
    assert len(batch.page_copies) == 1
    assert parent.pages[3] != child.pages[3]


def test_a_later_sample_finds_the_prompt_although_the_first_is_ahead():
    scheduler = a_scheduler(num_pages=40, max_num_seqs=2, enable_prefix_caching=False)
    sequences = samples(scheduler, 3, (*SYSTEM, 1, 2))
    for _ in range(8):
        step(scheduler)
    assert sequences[0].is_finished and sequences[1].is_finished

    # nobody is left who has it, and there is no cache
    assert dict(step(scheduler).items) == {sequences[2]: 14}


def test_with_the_cache_it_is_found_even_then_up_to_the_last_token():
    scheduler = a_scheduler(num_pages=40, max_num_seqs=2)
    sequences = samples(scheduler, 3, (*SYSTEM, 1, 2))
    for _ in range(8):
        step(scheduler)

    batch = step(scheduler)

    assert dict(batch.items) == {sequences[2]: 1}
    assert batch.has_rereads


def test_a_page_left_half_full_serves_the_next_turn():
    scheduler = a_scheduler(num_pages=40)
    first = add(scheduler, "a", (*SYSTEM, 1, 2, 3), max_tokens=1)
    run(scheduler)
    assert first.is_finished

    second = add(scheduler, "b", (*SYSTEM, 1, 2, 3, 9, 9))
    batch = step(scheduler)

    assert second.num_cached == 15 and dict(batch.items) == {second: 2}
    assert len(batch.page_copies) == 1  # the page stays as it was for others


def test_a_page_whose_end_differs_serves_as_far_as_it_agrees():
    scheduler = a_scheduler(num_pages=40)
    add(scheduler, "a", SYSTEM, max_tokens=1)
    run(scheduler)

    second = add(scheduler, "b", (*SYSTEM[:11], 7, 8))
    batch = step(scheduler)

    assert second.num_cached == 11
    assert len(batch.page_copies) == 1


def test_what_the_step_itself_fills_is_not_copied_before_it():
    scheduler = a_scheduler(num_pages=40)
    one = add(scheduler, "a", SYSTEM)
    other = add(scheduler, "b", (*SYSTEM[:11], 7, 8))

    batch = step(scheduler)

    # two full pages are shared at once; the third cannot be
    assert dict(batch.items) == {one: 12, other: 5}
    assert not batch.page_copies


def test_salts_keep_requests_apart():
    scheduler = a_scheduler(num_pages=40)
    cached = []
    for number, salt in enumerate(("", "x", "x", "y", "")):
        request = replace(a_request(str(number), (*SYSTEM, 1), max_tokens=1), cache_salt=salt)
        [sequence] = scheduler.add(request)
        run(scheduler)
        cached.append(sequence.num_cached)
    assert cached == [0, 0, 12, 0, 12]


class KeepsLong(Fcfs):
    """Evicts the pages deepest in their prefix last."""

    def __init__(self) -> None:
        self.ranked: list[int] = []

    def evict_rank(self, page):
        self.ranked.append(page.page)
        return page.depth - 100 * page.num_hits


def test_a_policy_ranks_what_is_evicted():
    policy, depths = KeepsLong(), []
    for each in (None, policy):
        scheduler = a_scheduler(num_pages=4, policy=each)
        add(scheduler, "a", SYSTEM, max_tokens=1)
        run(scheduler)
        add(scheduler, "b", (7,) * 7, max_tokens=1)
        run(scheduler)
        assert scheduler.cache is not None
        known = scheduler.cache.known.values()
        depths.append(sorted(page.depth for page in known if page.tokens[0] in SYSTEM))
    assert policy.ranked
    assert depths == [[0, 1], [1, 2]]  # the end of the long prefix goes first, or its beginning


class Raises(Fcfs):
    def evict_rank(self, page):
        raise RuntimeError("a slip")


@pytest.mark.filterwarnings("ignore::jpaged.errors.PolicyWarning")
def test_a_rank_that_raises_costs_nothing():
    scheduler = a_scheduler(num_pages=4, policy=Raises())
    for name, prompt in (("a", SYSTEM), ("b", (7,) * 7)):
        sequence = add(scheduler, name, prompt, max_tokens=1)
        run(scheduler)
        assert sequence.is_finished
    assert isinstance(scheduler.policy_error, RuntimeError)


class AsksThePaused(Fcfs):
    """Wishes much for those who wait for somebody's choice, before all others."""

    def propose(self, view):
        everyone = sorted((*view.running, *view.waiting), key=lambda s: s.num_pending)
        yield from ((sequence, 512) for sequence in everyone)


def test_whoever_pauses_without_a_seat_keeps_nobody_out():
    scheduler = a_scheduler(num_pages=4, policy=AsksThePaused())
    [paused] = scheduler.add(a_request("a", SYSTEM, max_tokens=2), is_steered=True)
    batch = step(scheduler)
    assert paused.is_paused and dict(batch.items) == {paused: 12}
    other = add(scheduler, "b", (7,) * 9, max_tokens=4)

    batch = step(scheduler)  # nobody else runs: the paused one gives way

    assert batch.preempted == (paused,) and dict(batch.items) == {other: 9}
    for _ in range(3):
        step(scheduler)
    assert other.is_finished and not paused.is_finished


def test_a_paused_one_goes_on_when_it_is_extended():
    scheduler = a_scheduler(num_pages=10)
    [sequence] = scheduler.add(a_request("a", SYSTEM, max_tokens=3), is_steered=True)
    step(scheduler)
    assert scheduler.schedule(0.0) is None and scheduler.has_unfinished

    scheduler.extend(sequence, 55)

    batch = scheduler.schedule(0.0)
    assert batch is not None and dict(batch.items) == {sequence: 1}
    assert scheduler.update(batch, StepOutput.filler(batch), 0.0) == [sequence]
    assert sequence.tokens == [*SYSTEM, 55] and sequence.is_paused
