"""What a request was doing from its arrival to its last token, as far as its record tells.

queued │ prompt │ decode │ preempted │ again │ decode
       scheduled                     │       └ the next token
                first token          └ let in once more: what it lost is computed anew
"""

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import NamedTuple

from jpaged.scheduling.events import RequestRecord

KINDS = ("queued", "prompt", "decode", "preempted", "again")


class Span(NamedTuple):
    kind: str  # of KINDS
    start: float  # seconds
    end: float


def spans(record: RequestRecord) -> list[Span]:
    """In order of time, without gaps.  Of one that was never let in, the end of its wait is not
    known: there is one span, of no length."""
    if record.scheduled is None:
        return [Span("queued", record.arrival, record.arrival)]
    end = max(each for each in (record.last_token, record.scheduled) if each is not None)
    pauses = [(start, end if until is None else until) for start, until in record.pauses]
    cuts = {record.arrival, record.scheduled, end}
    cuts |= {time for start, until in pauses for time in (start, until)}
    cuts |= {_next_token(record, until) for _, until in pauses}
    if record.first_token is not None:
        cuts.add(record.first_token)
    times = sorted(time for time in cuts if time <= end)
    found: list[Span] = []
    for start, until in pairwise(times):
        kind = _kind(record, pauses, (start + until) / 2)
        if found and found[-1].kind == kind:
            found[-1] = Span(kind, found[-1].start, until)
        else:
            found.append(Span(kind, start, until))
    return found or [Span("queued", record.arrival, end)]


def _kind(record: RequestRecord, pauses: list[tuple[float, float]], time: float) -> str:
    assert record.scheduled is not None
    if time < record.scheduled:
        return "queued"
    index = bisect_right([start for start, _ in pauses], time) - 1
    if index >= 0:
        until = pauses[index][1]
        if time < until:
            return "preempted"
        if time < _next_token(record, until):
            return "again"
    is_reading = record.first_token is None or time < record.first_token
    return "prompt" if is_reading else "decode"


def _next_token(record: RequestRecord, time: float) -> float:
    """When it said its next token after `time`; `time` if nobody knows."""
    index = bisect_left(record.token_times, time)
    return record.token_times[index] if index < len(record.token_times) else time
