"""Orca's memory: who is let in, and what is set aside for him."""

from collections.abc import Iterator
from random import Random

import pytest
from filler import a_request, a_scheduler, add, counts, names, run, step

from jpaged.policies import Fcfs, Orca
from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.scheduler import Scheduler


def an_orca(num_pages: int = 16, page_size: int = 4, **options) -> tuple[Orca, Scheduler]:
    policy = Orca(**options)
    return policy, a_scheduler(num_pages, page_size, policy=policy, enable_prefix_caching=False)


def who_ran(batches: Iterator[ScheduledBatch] | list[ScheduledBatch]) -> list[str]:
    return ["".join(names(sequence for sequence, _ in batch.items)) for batch in batches]


def test_a_request_waits_until_a_piece_for_its_whole_length_is_free():
    _, scheduler = an_orca(num_pages=8)
    add(scheduler, "a", prompt=3, max_tokens=14)  # 16 slots of 32: the last token is not computed
    add(scheduler, "b", prompt=3, max_tokens=6)  # 8
    add(scheduler, "c", prompt=3, max_tokens=7)  # 9 want a piece of 16, and 8 are free

    ran = who_ran(run(scheduler))

    assert ran[:7] == ["ab"] * 6 + ["ac"]
    assert ran[13:] == ["a"]


def test_pages_alone_would_have_let_all_of_them_in():
    scheduler = a_scheduler(8, 4, policy=Fcfs())
    for name, max_tokens in zip("abc", (14, 6, 7), strict=True):
        add(scheduler, name, prompt=3, max_tokens=max_tokens)

    assert who_ran([step(scheduler)]) == ["abc"]


def test_nobody_overtakes_who_finds_no_piece():
    _, scheduler = an_orca(num_pages=8)
    add(scheduler, "a", prompt=3, max_tokens=18)  # all 32 slots
    add(scheduler, "b", prompt=3, max_tokens=18)
    add(scheduler, "c", prompt=3, max_tokens=2)

    assert who_ran(run(scheduler)) == ["a"] * 18 + ["b"] * 18 + ["c"] * 2


def test_what_is_free_in_two_pieces_is_of_no_use_to_one():
    policy, scheduler = an_orca(num_pages=12)  # pieces of 32 and 16
    add(scheduler, "a", prompt=9, max_tokens=3)  # 11 slots, in the 16
    add(scheduler, "b", prompt=9, max_tokens=3)  # 11, in half of the 32
    add(scheduler, "c", prompt=17, max_tokens=1)  # 17, and only 16 are free in one piece
    step(scheduler)

    assert names(scheduler.running) == "ab"
    assert (sum(policy.num_asked.values()), policy.num_given) == (22, 32)


def test_every_sample_has_a_piece_and_all_start_together():
    policy, scheduler = an_orca(num_pages=16)
    scheduler.add(a_request("a", prompt=5, max_tokens=4, n=3))  # 3 pieces of 8
    scheduler.add(a_request("b", prompt=5, max_tokens=4, n=6))  # 48 slots, and 40 are free
    first = step(scheduler)

    assert who_ran([first]) == ["aaa"]
    assert policy.num_asked == {"a": 24}
    assert policy.num_given == 24
    assert who_ran(run(scheduler))[3:] == ["bbbbbb"] * 4


def test_a_search_sets_a_piece_aside_for_every_beam():
    policy, scheduler = an_orca(num_pages=16, beam_width=4)
    for name in "ab":
        scheduler.add(a_request(name, prompt=5, max_tokens=8), is_steered=True)
    step(scheduler)

    assert names(scheduler.running) == "a", "4 pieces of 16 are all there is"
    assert policy.num_given == 64


def test_a_reservation_may_know_less_than_the_oracle():
    policy, scheduler = an_orca(num_pages=16, reservation=lambda sequence: 30)
    for name in "abc":
        add(scheduler, name, prompt=3, max_tokens=2)
    step(scheduler)

    assert names(scheduler.running) == "ab"
    assert policy.num_asked == {"a": 30, "b": 30}


def test_a_request_that_no_piece_holds_runs_alone_at_last():
    _, scheduler = an_orca(num_pages=12)  # pieces of 32 and 16
    sequences = [add(scheduler, "a", prompt=20, max_tokens=20), add(scheduler, "b", prompt=2)]

    run(scheduler)

    assert all(sequence.finish_reason == "length" for sequence in sequences)


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_ever_evicted_and_all_pieces_come_back(seed):
    rng = Random(seed)
    policy, scheduler = an_orca(num_pages=rng.randint(8, 40), beam_width=1)
    sequences = [
        sequence
        for i in range(30)
        for sequence in scheduler.add(
            a_request(
                str(i), rng.randint(1, 6), max_tokens=rng.randint(1, 10), n=rng.choice((1, 1, 2))
            )
        )
    ]

    batches = run(scheduler)

    assert not any(batch.preempted for batch in batches)
    assert all(sequence.finish_reason == "length" for sequence in sequences)
    list(policy.propose(scheduler.view(0.0)))
    assert policy.num_given == 0 and not policy.pieces


def test_prompts_run_whole_beside_decodes():
    _, scheduler = an_orca()
    add(scheduler, "a", prompt=3)
    step(scheduler)
    add(scheduler, "b", prompt=5)

    assert counts(step(scheduler)) == {"a": 1, "b": 5}
