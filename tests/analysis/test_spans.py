"""What a request was doing when: against records made by hand, and batches that were seen."""

import pytest
from filler import a_request, a_scheduler
from runs import a_request_record, a_run

from jpaged.analysis.spans import KINDS, spans
from jpaged.scheduling.batch import StepOutput
from jpaged.scheduling.events import RequestRecord
from jpaged.scheduling.request import Timing


def test_a_request_queues_reads_and_writes():
    assert spans(a_request_record()) == [
        ("queued", 0.0, 1.0),
        ("prompt", 1.0, 2.0),
        ("decode", 2.0, 6.0),
    ]


def test_one_that_was_preempted_computes_again_until_its_next_token():
    record = a_request_record(token_times=(2.0, 3.0, 5.5, 6.0), pauses=((3.5, 4.5),))

    assert spans(record)[2:] == [
        ("decode", 2.0, 3.5),
        ("preempted", 3.5, 4.5),
        ("again", 4.5, 5.5),
        ("decode", 5.5, 6.0),
    ]


def test_a_pause_in_the_prompt_goes_on_with_the_prompt():
    record = a_request_record(token_times=(4.0, 6.0), first_token=4.0, pauses=((2.0, 3.0),))
    assert [kind for kind, *_ in spans(record)] == [
        "queued",
        "prompt",
        "preempted",
        "again",
        "decode",
    ]


def test_a_pause_that_never_ended_lasts_to_the_last_token():
    record = a_request_record(token_times=(2.0, 3.0, 6.0), pauses=((5.0, None),))
    assert spans(record)[-1] == ("preempted", 5.0, 6.0)


def test_one_that_was_never_let_in_has_only_waited():
    record = a_request_record(scheduled=None, first_token=None, last_token=None)
    assert spans(record) == [("queued", 0.0, 0.0)]


def test_spans_of_a_run_leave_no_gaps():
    kinds = set()
    for record in a_run().ended:
        found = spans(record)
        kinds |= {span.kind for span in found}
        assert found[0].start == record.arrival and found[-1].end == record.last_token
        assert all(
            a.end == b.start and a.start < a.end for a, b in zip(found, found[1:], strict=False)
        )
    assert kinds == set(KINDS)


@pytest.mark.parametrize("num_requests", [4, 7])
def test_pauses_are_from_a_preemption_to_the_next_step_with_the_sequence(num_requests):
    scheduler = a_scheduler(12, 4)
    for index in range(num_requests):
        scheduler.add(a_request(str(index), prompt=6, max_tokens=12))
    everyone = [*scheduler.running, *scheduler.waiting]
    expected = {sequence: [] for sequence in everyone}
    now = 0.0
    while (batch := scheduler.schedule(now)) is not None:
        for sequence, _ in batch.items:
            if expected[sequence] and expected[sequence][-1][1] is None:
                expected[sequence][-1][1] = now
        for sequence in batch.preempted:
            expected[sequence].append([now, None])
        scheduler.update(batch, StepOutput.filler(batch), now + 0.5)
        now += 1.0

    found = {each: [list(pause) for pause in RequestRecord.of(each).pauses] for each in everyone}
    assert found == expected
    assert sum(map(len, expected.values())) == sum(each.num_preemptions for each in everyone) > 0


def test_who_was_let_in_only_this_moment_and_sent_away_has_not_paused():
    timing = Timing()
    timing.pause(1.0)
    assert timing.pauses == []

    timing.scheduled = 2.0
    timing.resume(2.0)
    timing.pause(3.0)
    timing.resume(4.0)
    assert timing.pauses == [(3.0, 4.0)]
