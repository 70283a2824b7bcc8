"""How a request comes and goes: samples, refusals, aborts, times."""

import pytest
from filler import FILLER, a_request, a_scheduler, add, names, run, schedule, step

from jpaged.errors import RequestRejected
from jpaged.scheduling.batch import StepOutput


def test_the_samples_of_a_request_are_sequences_of_their_own():
    scheduler = a_scheduler()
    samples = scheduler.add(a_request("a", prompt=4, max_tokens=2, n=3))

    run(scheduler)

    assert [sample.index for sample in samples] == [0, 1, 2]
    assert [sample.generated for sample in samples] == [[FILLER, FILLER]] * 3
    assert len({sample.seed for sample in samples}) == 3


def test_more_samples_than_seats_are_served_one_after_another():
    scheduler = a_scheduler(max_num_seqs=2)
    samples = scheduler.add(a_request("a", n=5))

    run(scheduler)

    assert all(sample.finish_reason == "length" for sample in samples)


def test_a_request_larger_than_the_cache_is_refused_with_numbers():
    scheduler = a_scheduler(num_pages=4, page_size=4)

    with pytest.raises(RequestRejected, match=r"17 tokens \(10 prompt \+ 7 max_tokens\).* 16 "):
        scheduler.add(a_request("a", prompt=10, max_tokens=7))

    assert not scheduler.has_unfinished


def test_a_request_as_large_as_the_cache_is_served():
    scheduler = a_scheduler(num_pages=4, page_size=4)
    sequence = add(scheduler, prompt=10, max_tokens=6)

    run(scheduler)

    assert len(sequence.generated) == 6


def test_without_chunked_prefill_a_request_larger_than_a_step_is_refused():
    scheduler = a_scheduler(max_num_batched_tokens=12, enable_chunked_prefill=False)

    with pytest.raises(RequestRejected, match="13 tokens, a step takes 12"):
        scheduler.add(a_request("a", prompt=10, max_tokens=3))


def test_an_empty_prompt_is_refused():
    scheduler = a_scheduler()

    with pytest.raises(RequestRejected, match="empty"):
        scheduler.add(a_request("a", prompt=()))

    assert not scheduler.has_unfinished


def test_aborting_a_waiting_request_forgets_it():
    scheduler = a_scheduler(max_num_seqs=1)
    add(scheduler, "a")
    waiting = add(scheduler, "b")
    step(scheduler)

    assert scheduler.abort("b") == [waiting]

    assert waiting.finish_reason == "abort"
    assert names(scheduler.waiting) == ""


def test_aborting_a_running_request_frees_its_pages():
    scheduler = a_scheduler()
    samples = scheduler.add(a_request("a", prompt=8, n=2))
    step(scheduler)

    assert scheduler.abort("a") == samples

    assert scheduler.pool.num_held == 0
    assert not scheduler.has_unfinished


def test_a_request_aborted_while_its_step_runs_gets_no_token():
    scheduler = a_scheduler()
    aborted = add(scheduler, "a")
    other = add(scheduler, "b")
    batch = schedule(scheduler)

    scheduler.abort("a")
    advanced = scheduler.update(batch, StepOutput.filler(batch, FILLER), 0.0)

    assert advanced == [other]
    assert (aborted.generated, aborted.pages) == ([], [])
    assert scheduler.pool.num_held == 1


def test_aborting_an_unknown_request_does_nothing():
    scheduler = a_scheduler()
    add(scheduler, "a")

    assert scheduler.abort("b") == []
    assert scheduler.has_unfinished


def test_times_tell_when_a_sequence_came_started_and_spoke():
    scheduler = a_scheduler(max_num_seqs=1)
    add(scheduler, "a", max_tokens=2)
    sequence = add(scheduler, "b", prompt=6, max_tokens=3, arrival=0.5)
    for now in (1.0, 2.0):
        step(scheduler, now)

    for now in (3.0, 4.0, 5.0):
        batch = schedule(scheduler, now)
        scheduler.update(batch, StepOutput.filler(batch), now + 0.25)

    timing = sequence.timing
    assert (timing.queued, timing.scheduled) == (0.5, 3.0)
    assert (timing.first_token, timing.last_token) == (3.25, 5.25)
