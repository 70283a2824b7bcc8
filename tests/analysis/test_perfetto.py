"""Traces for Perfetto, held against the Trace Event Format."""

import json
from collections import defaultdict

import pytest
from runs import a_request_record, a_run, a_step_record

from jpaged.analysis import to_perfetto
from jpaged.simulator import Result


def trace_of(result: Result, tmp_path) -> list[dict]:
    path = tmp_path / "trace.json"
    to_perfetto(result, path)
    trace = json.loads(path.read_text())
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    return trace["traceEvents"]


def test_every_event_has_what_the_format_asks_for(tmp_path):
    for event in trace_of(a_run(num_replicas=2), tmp_path):
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event["name"], str) and event["ph"] in "XCM"
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and event["args"]["name"]
            continue
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        else:
            assert all(isinstance(value, int) for value in event["args"].values())


def test_times_are_microseconds_since_the_first_arrival(tmp_path):
    result = Result(
        ended=[a_request_record(arrival=10.0, scheduled=10.5, first_token=11.0, last_token=13.0)],
        records=[a_step_record(10.25, 10.5, num_tokens=3)],
    )
    events = {event["name"]: event for event in trace_of(result, tmp_path) if event["ph"] == "X"}

    assert (events["step"]["ts"], events["step"]["dur"]) == (250_000, 250_000)
    assert events["step"]["args"]["tokens"] == 3
    assert (events["a"]["ts"], events["a"]["dur"]) == (0, 3_000_000)
    assert (events["decode"]["ts"], events["decode"]["dur"]) == (1_000_000, 2_000_000)


def test_slices_of_a_track_nest(tmp_path):
    tracks = defaultdict(list)
    for event in trace_of(a_run(num_replicas=2), tmp_path):
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in tracks.values():
        open_until: list[float] = []
        for start, end in slices:  # in the order of the file
            while open_until and open_until[-1] <= start + 0.002:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 0.002, "rounded to a nanosecond each"
            open_until.append(end)


def test_there_are_a_slice_a_step_and_a_request_and_counters_a_step(tmp_path):
    result = a_run(num_replicas=2)
    events = trace_of(result, tmp_path)
    names = [event.get("cat", event["name"]) for event in events]

    assert (
        names.count("step") == names.count("pages") == names.count("waiting") == len(result.records)
    )
    assert names.count("request") == len(result.ended)
    pages = [event["args"]["held"] for event in events if event["name"] == "pages"]
    assert sorted(pages) == sorted(record.pages_held for record in result.records)


def test_a_lane_is_used_again(tmp_path):
    later = {"arrival": 7.0, "scheduled": 7.0, "first_token": 8.0, "last_token": 9.0}
    early = [a_request_record(), a_request_record(request_id="b", arrival=0.5)]
    events = trace_of(Result(ended=[*early, a_request_record(request_id="c", **later)]), tmp_path)

    lanes = {event["name"]: event["tid"] for event in events if event.get("cat") == "request"}
    assert lanes == {"a": 0, "b": 1, "c": 0}


@pytest.mark.parametrize("result", [Result(), Result(records=[a_step_record(1.0, 2.0)])])
def test_a_run_with_nothing_in_it_is_a_trace(result, tmp_path):
    assert trace_of(result, tmp_path)[0]["ph"] == "M"
