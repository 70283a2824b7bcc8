"""What runs in a step: order, budget, seats, pages."""

import pytest
from filler import FILLER, Wishes, a_scheduler, add, counts, names, run, schedule, step

from jpaged.scheduling.request import Status


def test_an_idle_scheduler_has_no_batch():
    assert a_scheduler().schedule(0.0) is None


def test_requests_are_served_in_order_of_arrival():
    scheduler = a_scheduler(max_num_seqs=1)
    for name in "abc":
        add(scheduler, name, max_tokens=2)

    order = [names(sequence for sequence, _ in batch.items) for batch in run(scheduler)]

    assert order == list("aabbcc")


def test_a_prompt_and_its_answer_take_one_step_a_token():
    scheduler = a_scheduler()
    sequence = add(scheduler, prompt=5, max_tokens=3)

    batches = run(scheduler)

    assert [counts(batch) for batch in batches] == [{"a": 5}, {"a": 1}, {"a": 1}]
    assert sequence.generated == [FILLER] * 3


def test_a_long_prompt_is_cut_to_the_token_budget():
    scheduler = a_scheduler(max_num_batched_tokens=8)
    add(scheduler, prompt=20, max_tokens=1)

    assert [batch.num_tokens for batch in run(scheduler)] == [8, 8, 4]


def test_decodes_and_a_chunk_of_a_prompt_share_a_step():
    scheduler = a_scheduler(max_num_batched_tokens=8)
    add(scheduler, "a", prompt=3, max_tokens=9)
    add(scheduler, "b", prompt=3, max_tokens=9)
    step(scheduler)

    add(scheduler, "c", prompt=10)
    chunks = [counts(step(scheduler)) for _ in range(3)]

    assert chunks == [
        {"a": 1, "b": 1, "c": 6},
        {"a": 1, "b": 1, "c": 4},
        {"a": 1, "b": 1, "c": 1},
    ]


def test_a_chunk_that_ends_within_a_prompt_brings_no_token():
    scheduler = a_scheduler(max_num_batched_tokens=8)
    sequence = add(scheduler, prompt=10)

    step(scheduler)

    assert sequence.generated == []
    assert (sequence.num_computed, sequence.num_pending) == (8, 2)


def test_without_chunked_prefill_a_prompt_waits_until_it_fits_whole():
    scheduler = a_scheduler(max_num_batched_tokens=8, enable_chunked_prefill=False)
    add(scheduler, "a", prompt=5, max_tokens=3)
    add(scheduler, "b", prompt=5, max_tokens=3)

    assert [counts(step(scheduler)) for _ in range(2)] == [{"a": 5}, {"a": 1, "b": 5}]


def test_without_chunked_prefill_too_small_a_wish_admits_nobody():
    scheduler = a_scheduler(enable_chunked_prefill=False)
    add(scheduler, "a", max_tokens=8)
    step(scheduler)
    waiting = add(scheduler, "b", prompt=8)

    scheduler.policy = Wishes(("a", 1), ("b", 7))

    assert counts(step(scheduler)) == {"a": 1}
    assert (waiting.status, waiting.pages, waiting.num_computed) == (Status.WAITING, [], 0)
    assert waiting.num_preemptions == 0


def test_a_prompt_that_was_not_admitted_leaves_its_pages_to_the_next():
    scheduler = a_scheduler(num_pages=6, page_size=4, enable_chunked_prefill=False)
    add(scheduler, "a", max_tokens=8)
    step(scheduler)
    add(scheduler, "b", prompt=12)
    add(scheduler, "c", prompt=8)

    scheduler.policy = Wishes(("a", 1), ("b", 1), ("c", 8))

    # of six pages a has two, and the three of b would leave but one of the two that c needs
    assert counts(step(scheduler)) == {"a": 1, "c": 8}


def test_an_interrupted_step_does_not_split_a_prompt_later():
    scheduler = a_scheduler(max_num_batched_tokens=16, enable_chunked_prefill=False)
    add(scheduler, "a", prompt=8)
    schedule(scheduler)  # and the step is lost: no update

    scheduler.policy = Wishes()

    assert counts(schedule(scheduler)) == {"a": 8}


def test_an_interrupted_step_is_run_again():
    scheduler = a_scheduler(max_num_batched_tokens=8)
    sequence = add(scheduler, prompt=10, max_tokens=2)

    lost = schedule(scheduler)
    again = schedule(scheduler)

    assert lost.items == again.items == ((sequence, 8),)
    assert scheduler.pool.num_held == 2


def test_no_more_sequences_run_than_there_are_seats():
    scheduler = a_scheduler(max_num_seqs=2)
    for name in "abcde":
        add(scheduler, name)

    batches = run(scheduler)

    assert max(batch.num_sequences for batch in batches) == 2
    assert len(scheduler.running) == 0


def test_a_prompt_waits_while_its_pages_are_not_all_free():
    scheduler = a_scheduler(num_pages=4, page_size=4)
    add(scheduler, "a", prompt=8, max_tokens=4)
    add(scheduler, "b", prompt=12, max_tokens=4)

    step(scheduler)

    assert (names(scheduler.running), names(scheduler.waiting)) == ("a", "b")


def test_a_small_request_does_not_overtake_one_that_waits_for_pages():
    scheduler = a_scheduler(num_pages=4, page_size=4)
    add(scheduler, "a", prompt=8, max_tokens=4)
    add(scheduler, "b", prompt=12, max_tokens=4)
    add(scheduler, "c", prompt=4, max_tokens=4)

    step(scheduler)

    assert (names(scheduler.running), names(scheduler.waiting)) == ("a", "bc")


@pytest.mark.parametrize(
    "scarce",
    [{"num_pages": 8}, {"max_num_batched_tokens": 32, "enable_chunked_prefill": False}],
    ids=["pages", "tokens"],
)
def test_a_large_request_ends_under_an_endless_stream_of_small_ones(scarce):
    scheduler = a_scheduler(**scarce)
    add(scheduler, "first", prompt=4, max_tokens=3)
    large = add(scheduler, "large", prompt=31, max_tokens=1)

    for i in range(60):
        add(scheduler, f"small {i}", prompt=4, max_tokens=3)
        step(scheduler, now=float(i))

    assert large.is_finished
