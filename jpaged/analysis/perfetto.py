"""A run as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

    replica 0    steps      ▓▓▓▓▓▓▓▓▓▓▓▓▓      one after another, with bucket and tokens
                 counters   pages, waiting, sequences in a step
    requests     lane 0     ▓▓queued▓prompt▓▓decode▓▓     as many lanes as requests at a time
                 lane 1        ▓▓▓▓▓▓▓▓▓▓▓▓

The format: "Trace Event Format", docs of the Chromium project; times in microseconds.
"""

import heapq
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jpaged.analysis.spans import spans
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.simulator.result import Result

REQUESTS = 1000  # the "process" of requests; those below are replicas
Event = dict[str, Any]


def to_perfetto(result: Result, path: str | Path) -> None:
    """Writes a trace; its time begins with the first arrival or step."""
    events = trace_events(result)
    Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def trace_events(result: Result) -> list[Event]:
    """The trace's events, in order of time but for the names of its tracks."""
    starts = [each.arrival for each in result.ended] + [each.start for each in result.records]
    origin = min(starts, default=0.0)
    replicas = result.run_on or [0] * len(result.records)
    events = [_named("process_name", REQUESTS, 0, "requests")]
    for replica in sorted(set(replicas)):
        events.append(_named("process_name", replica, 0, f"replica {replica}"))
        events.append(_named("thread_name", replica, 1, "steps"))
    timed: list[Event] = []
    for record, replica in zip(result.records, replicas, strict=True):
        timed += _of_step(record, replica, origin)
    for lane, record in lanes(result.ended):
        timed += _of_request(record, lane, origin)
    # a slice before those inside it: they begin together
    timed.sort(key=lambda event: (event["ts"], -event.get("dur", 0.0)))
    return events + timed


def lanes(ended: Iterable[RequestRecord]) -> Iterable[tuple[int, RequestRecord]]:
    """Requests in order of arrival, each in the first lane that is free by then."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for record in sorted(ended, key=lambda each: each.arrival):
        while busy and busy[0][0] <= record.arrival:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (spans(record)[-1].end, lane))
        yield lane, record


def _of_step(record: StepRecord, replica: int, origin: float) -> Iterable[Event]:
    facts = {
        "step": record.index,
        "tokens": record.num_tokens,
        "sequences": record.num_sequences,
        "recomputed": record.num_recomputed,
        "preempted": record.num_preempted,
        "finished": record.num_finished,
    }
    name = "step" if record.bucket is None else str(record.bucket)
    yield _slice(name, "step", record.start, record.end, replica, 1, origin, facts)
    counters = {
        "pages": {"held": record.pages_held, "idle": record.pages_idle},
        "waiting": {"sequences": record.num_waiting},
        "in the step": {"sequences": record.num_sequences},
    }
    for counter, values in counters.items():
        at = _microseconds(record.start, origin)
        yield {"ph": "C", "name": counter, "pid": replica, "tid": 0, "ts": at, "args": values}


def _of_request(record: RequestRecord, lane: int, origin: float) -> Iterable[Event]:
    phases = spans(record)
    facts = {
        "client": record.client,
        "prompt": record.num_prompt,
        "cached": record.num_cached,
        "output": record.num_output,
        "preemptions": record.num_preemptions,
        "finish_reason": record.finish_reason,
    }
    name, where = record.name, (REQUESTS, lane, origin)
    yield _slice(name, "request", phases[0].start, phases[-1].end, *where, facts)
    for phase in phases:
        yield _slice(phase.kind, "phase", phase.start, phase.end, *where, {})


def _slice(
    name: str,
    category: str,
    start: float,
    end: float,
    pid: int,
    tid: int,
    origin: float,
    facts: dict[str, Any],
) -> Event:
    at, until = _microseconds(start, origin), _microseconds(end, origin)
    common = {"ph": "X", "name": name, "cat": category, "pid": pid, "tid": tid}
    return common | {"ts": at, "dur": round(until - at, 3), "args": facts}


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _microseconds(time: float, origin: float) -> float:
    return round((time - origin) * 1e6, 3)
