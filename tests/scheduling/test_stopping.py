"""When a sequence has said enough, and what it says about why."""

import pytest
from filler import EOS, FILLER, a_scheduler, add, run, schedule

from jpaged.scheduling.batch import StepOutput
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.stopping import must_go_on

STOP = 50


def said(answers: list[int], **params) -> Sequence:
    """A sequence of up to eight tokens, answered with these and then with filler."""
    scheduler = a_scheduler()
    sequence = add(scheduler, "a", **{"max_tokens": 8, **params})
    for token in answers:
        if not sequence.is_finished:
            batch = schedule(scheduler)
            scheduler.update(batch, StepOutput.filler(batch, token), 0.0)
    run(scheduler)
    return sequence


@pytest.mark.parametrize(
    ("answers", "params", "num_tokens", "reasons"),
    [
        ([], {"max_tokens": 1}, 1, ("length", None)),
        ([], {}, 8, ("length", None)),
        ([1, EOS], {}, 2, ("stop", None)),
        ([EOS], {}, 1, ("stop", None)),
        ([1, EOS], {"ignore_eos": True}, 8, ("length", None)),
        ([1, STOP], {}, 8, ("length", None)),
        ([1, STOP], {"stop_token_ids": [STOP]}, 2, ("stop", STOP)),
        ([1, 2, STOP], {"stop_token_ids": [STOP, 1]}, 1, ("stop", 1)),
        ([1, 0], {"stop_token_ids": [0]}, 2, ("stop", 0)),
        ([EOS], {"stop_token_ids": [EOS]}, 1, ("stop", None)),
        ([EOS], {"stop_token_ids": [EOS], "ignore_eos": True}, 1, ("stop", EOS)),
        ([EOS, 1, EOS], {"min_tokens": 3}, 3, ("stop", None)),
        ([STOP, 1, STOP], {"stop_token_ids": [STOP], "min_tokens": 2}, 3, ("stop", STOP)),
        ([EOS, EOS], {"min_tokens": 8}, 8, ("length", None)),
        ([1, 2, EOS], {"max_tokens": 3}, 3, ("stop", None)),
        ([1, 2, STOP], {"max_tokens": 3, "stop_token_ids": [STOP]}, 3, ("stop", STOP)),
    ],
)
def test_a_sequence_ends_where_it_should_and_says_why(answers, params, num_tokens, reasons):
    sequence = said(answers, **params)

    assert len(sequence.generated) == num_tokens
    assert (sequence.finish_reason, sequence.stop_reason) == reasons


def test_a_finished_sequence_frees_its_seat_and_its_pages_at_once():
    scheduler = a_scheduler(max_num_seqs=1)
    sequence = add(scheduler, prompt=9)
    batch = schedule(scheduler)

    advanced = scheduler.update(batch, StepOutput.filler(batch, EOS), 0.0)

    assert advanced == [sequence]
    assert (sequence.pages, scheduler.pool.num_held) == ([], 0)
    assert not scheduler.has_unfinished


def test_the_last_token_is_kept_though_it_ended_the_sequence():
    assert said([FILLER, EOS]).generated == [FILLER, EOS]


def test_one_sample_may_stop_while_the_other_goes_on():
    scheduler = a_scheduler()
    first = add(scheduler, "a")
    other = add(scheduler, "b")
    batch = schedule(scheduler)

    scheduler.update(batch, StepOutput((EOS, FILLER), {}, {}), 0.0)

    assert (first.is_finished, other.is_finished) == (True, False)


def test_an_outsider_may_end_a_sequence_with_its_own_reason():
    scheduler = a_scheduler()
    sequence = add(scheduler)

    scheduler.finish(sequence, "stop", "###")

    assert (sequence.finish_reason, sequence.stop_reason) == ("stop", "###")
    assert not scheduler.has_unfinished


def test_stop_tokens_are_masked_until_there_are_min_tokens():
    scheduler = a_scheduler()
    sequence = add(scheduler, min_tokens=2, stop_token_ids=[STOP])
    must = []
    while not sequence.is_finished:
        must.append(must_go_on(sequence))
        batch = schedule(scheduler)
        scheduler.update(batch, StepOutput.filler(batch, FILLER), 0.0)

    assert must == [True, True, False, False]


def test_a_sequence_knows_every_token_it_would_stop_at():
    scheduler = a_scheduler()

    assert add(scheduler, "a", stop_token_ids=[STOP]).stop_ids == {EOS, STOP}
    assert add(scheduler, "b", stop_token_ids=[STOP], ignore_eos=True).stop_ids == {STOP}
