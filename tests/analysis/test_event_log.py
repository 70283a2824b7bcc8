"""Event logs: what is written is what is read, and what is broken is named."""

import json

import pytest
from runs import a_replica, a_run, serve

from jpaged.analysis import EventLog, read_log
from jpaged.errors import ConfigError
from jpaged.scheduling.events import RequestRecord


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def broken(path, number: int, text: str):
    """The log of a run, with another text in one of its lines."""
    a_run(5).save(path)
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("num_replicas", [1, 3])
def test_a_saved_run_reads_as_it_was(path, num_replicas):
    result = a_run(num_replicas=num_replicas, n=2)
    result.refused.append(("x", "no “room” today"))
    result.save(path)

    assert read_log(path) == result
    assert result.summary()["num_preemptions"] > 0, "pauses are in what was compared"
    assert [trace.num_changes > 0 for trace in result.page_traces] == [True] * num_replicas


def test_a_log_written_while_serving_tells_what_the_loop_told(path):
    records, ended = [], []
    replica = a_replica(
        on_step=records.append, on_finish=lambda sequence: ended.append(RequestRecord.of(sequence))
    )
    with EventLog(path) as log:
        log.attach(replica, trace_pages=True)
        serve(replica)
    result = read_log(path)

    assert result.records == records
    assert result.ended == ended
    assert [step.index for step in result.page_traces[0].steps] == [each.index for each in records]
    assert result.about["policy"] == "Fcfs" and result.about["num_pages"] == 24


def test_a_closed_log_gets_nothing_and_nobody_is_disturbed(path):
    replica = a_replica()
    with EventLog(path) as log:
        log.attach(replica, trace_pages=True)
    size = path.stat().st_size
    serve(replica)

    assert path.stat().st_size == size
    assert not replica.loop.watchers, "and nobody pays for looks at the pages"
    assert replica.loop.num_steps > 10


def test_every_line_says_what_it_is(path):
    a_run(5).save(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert lines[0]["event"] == "log"
    assert {line["event"] for line in lines[1:]} == {"step", "request", "pages"}


def test_a_log_that_was_cut_short_is_read_up_to_there(path):
    result = a_run(5, trace_pages=False)
    result.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    found = read_log(path)

    assert found.records == result.records
    assert found.ended == result.ended[:-1]
    assert found.about["cut_at"] == 1 + len(result.records) + len(result.ended)


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (4, '{"event": "step", "ind', "line 4, is no event"),
        (3, '{"event": "dance"}', "line 3, is no event .*dance"),
        (2, '{"event": "step", "colour": 1}', "line 2, is no event"),
        (2, "[1, 2]", "line 2, is no event"),
        (1, '{"event": "log", "format": 9, "about": {}}', "line 1, .*format 9"),
        (1, '{"event": "refused", "request": "a", "reason": ""}', "line 1: .*not begin"),
        (5, '{"event": "log", "format": 1, "about": {}}', "line 5: .*not go on"),
    ],
)
def test_a_bad_line_is_named(path, number, text, said):
    broken(path, number, text)
    with pytest.raises(ConfigError, match=said):
        read_log(path)


def test_an_empty_file_is_no_log(path):
    path.write_text("")
    with pytest.raises(ConfigError, match="empty"):
        read_log(path)
