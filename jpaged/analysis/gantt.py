"""One bar a request: who queued, ran and was preempted when."""

from collections.abc import Sequence
from typing import Any

from jpaged.analysis.spans import KINDS, spans
from jpaged.scheduling.events import RequestRecord


def gantt_data(ended: Sequence[RequestRecord], origin: float) -> dict[str, Any]:
    """Rows in order of arrival, each with its spans as flat numbers: kind, start, end, and so on;
    times in seconds since `origin`."""
    rows = [
        {
            "name": record.name,
            "client": record.client,
            "prompt": record.num_prompt,
            "cached": record.num_cached,
            "output": record.num_output,
            "preemptions": record.num_preemptions,
            "reason": record.finish_reason,
            "ttft": record.ttft,
            "tpot": record.tpot,
            "latency": record.latency,
            "spans": _flat(record, origin),
        }
        for record in sorted(ended, key=lambda each: each.arrival)
    ]
    return {"kinds": KINDS, "rows": rows}


def _flat(record: RequestRecord, origin: float) -> list[float]:
    found = []
    for kind, start, end in spans(record):
        found += [KINDS.index(kind), start - origin, end - origin]
    return found
