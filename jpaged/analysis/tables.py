"""The report's tables, in HTML: they can be read, and copied, without any script."""

from collections.abc import Iterable, Sequence
from html import escape
from math import isnan, nan

from jpaged.analysis.distributions import finished, quantile, values_of
from jpaged.analysis.fairness import jain, service_by_client
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.simulator.result import TIMES, Result

SUMMARY = {
    "num_requests": ("sequences that ended", ""),
    "num_refused": ("requests refused", ""),
    "seconds": ("from the first arrival to the last token", "s"),
    "requests_per_second": ("sequences finished", "/s"),
    "tokens_per_second": ("tokens said", "/s"),
    "goodput": ("sequences that kept all promises", "/s"),
    "num_preemptions": ("preemptions", ""),
    "recompute_tax": ("computed tokens that were computed before", "%"),
    "hit_rate": ("prompt tokens found in the cache", "%"),
    "padding": ("token slots of steps that were empty", "%"),
}
NAMES = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "latency": "end to end",
    "max_gap": "longest wait for a token",
}


def summary_table(result: Result) -> str:
    found = result.summary()
    rows = [
        (text, _number(found[name], unit), f"<code>{name}</code>")
        for name, (text, unit) in SUMMARY.items()
    ]
    return _table(("", "value", "in <code>summary()</code>"), rows)


def latency_table(result: Result) -> str:
    records = finished(result.ended)
    rows = []
    for name in (*TIMES, "max_gap"):
        values = values_of(name, records)
        cells = [sum(values) / len(values)] if values else [nan]
        cells += [quantile(values, share) if values else nan for share in (0.5, 0.9, 0.99, 1.0)]
        rows.append((NAMES[name], *[_number(each, "s") for each in cells]))
    return _table(("", "mean", "p50", "p90", "p99", "max"), rows)


def clients_table(result: Result) -> str:
    """A row a client: what it asked, what it got, and how soon."""
    service = service_by_client(result.ended)
    total = sum(service.values())
    rows = []
    for client, part in service.items():
        mine = [record for record in result.ended if record.client == client]
        prompts, outputs = sum(r.num_prompt for r in mine), sum(r.num_output for r in mine)
        counts = [_number(each, "") for each in (len(mine), prompts, outputs, part)]
        share = _number(part / total if total else 0.0, "%")
        rows.append((escape(client) or "(none)", *counts, share, *_waits(mine)))
    head = ("client", "sequences", "prompt tokens", "output tokens", "service", "share")
    table = _table((*head, "TTFT p50", "TTFT p90", "end to end p50"), rows)
    return f"<p>{_verdict(service)}</p>{table}"


def _waits(mine: list[RequestRecord]) -> list[str]:
    asked = (("ttft", 0.5), ("ttft", 0.9), ("latency", 0.5))
    found = [(values_of(name, finished(mine)), share) for name, share in asked]
    return [_number(quantile(values, share) if values else nan, "s") for values, share in found]


def _verdict(service: dict[str, float]) -> str:
    if len(service) < 2:
        return "One client: there is nothing to compare."
    return (
        f"Jain's index of service is <b>{jain(service.values()):.3f}</b> over {len(service)} "
        f"clients; it would be 1 if all had the same, and {1 / len(service):.3f} if one had all. "
        f"The most that one had is {_number(max(service.values()), '')}, the least "
        f"{_number(min(service.values()), '')}. Service counts a prompt token once and an output "
        "token twice; what a client had also depends on what it asked for."
    )


def buckets_table(result: Result) -> str:
    """A row a compiled shape: how often, how full, how long."""
    by_bucket: dict[Bucket, list[StepRecord]] = {}
    for record in result.records:
        if record.bucket is not None:
            by_bucket.setdefault(record.bucket, []).append(record)
    if not by_bucket:
        return "<p>No step was padded: this run has no buckets.</p>"
    ranked = sorted(by_bucket.items(), key=lambda pair: -_seconds(pair[1]))
    total = sum(_seconds(mine) for mine in by_bucket.values())
    rows = [_bucket_row(bucket, mine, total) for bucket, mine in ranked]
    head = ("bucket (tokens, sequences, pages)", "steps", "seconds", "share of time")
    return _table((*head, "padding", "tokens: filled and empty"), rows)


def _bucket_row(bucket: Bucket, mine: list[StepRecord], total: float) -> tuple[str, ...]:
    filled = sum(record.num_tokens for record in mine) / (len(mine) * bucket.num_tokens)
    seconds = _seconds(mine)
    bar = f'<span class="bar" style="--filled:{100 * filled:.1f}%"></span>'
    shares = [_number(seconds / total if total else 0.0, "%"), _number(1 - filled, "%")]
    return str(bucket), _number(len(mine), ""), _number(seconds, "s"), *shares, bar


def _seconds(records: Iterable[StepRecord]) -> float:
    return sum(record.end - record.start for record in records)


def _number(value: float, unit: str) -> str:
    """Four digits and a unit.  Shares are given from 0 to 1, times in seconds."""
    if isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{1e3 * value:.3g} ms" if abs(value) >= 1e-3 else f"{1e6 * value:.3g} µs"
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{_row(*row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _row(first: str, *cells: str) -> str:
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells)
