"""The report's tables, in HTML: they can be read, and copied, without any script."""

from collections.abc import Iterable, Sequence
from html import escape
from math import nan

from jpaged.analysis.distributions import finished, quantile, values_of
from jpaged.analysis.fairness import jain, service_by_client
from jpaged.analysis.numbers import NAMES, SUMMARY, number
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.simulator.result import TIMES, Result


def summary_table(result: Result) -> str:
    found = result.summary()
    rows = [
        (text, number(found[name], unit), f"<code>{name}</code>")
        for name, (text, unit) in SUMMARY.items()
    ]
    return table(("", "value", "in <code>summary()</code>"), rows)


def latency_table(result: Result) -> str:
    records = finished(result.ended)
    rows = []
    for name in (*TIMES, "max_gap"):
        values = values_of(name, records)
        cells = [sum(values) / len(values)] if values else [nan]
        cells += [quantile(values, share) if values else nan for share in (0.5, 0.9, 0.99, 1.0)]
        rows.append((NAMES[name], *[number(each, "s") for each in cells]))
    return table(("", "mean", "p50", "p90", "p99", "max"), rows)


def clients_table(result: Result) -> str:
    """A row a client: what it asked, what it got, and how soon."""
    service = service_by_client(result.ended)
    total = sum(service.values())
    rows = []
    for client, part in service.items():
        mine = [record for record in result.ended if record.client == client]
        prompts, outputs = sum(r.num_prompt for r in mine), sum(r.num_output for r in mine)
        counts = [number(each, "") for each in (len(mine), prompts, outputs, part)]
        share = number(part / total if total else 0.0, "%")
        rows.append((escape(client) or "(none)", *counts, share, *_waits(mine)))
    head = ("client", "sequences", "prompt tokens", "output tokens", "service", "share")
    found = table((*head, "TTFT p50", "TTFT p90", "end to end p50"), rows)
    return f"<p>{_verdict(service)}</p>{found}"


def _waits(mine: list[RequestRecord]) -> list[str]:
    asked = (("ttft", 0.5), ("ttft", 0.9), ("latency", 0.5))
    found = [(values_of(name, finished(mine)), share) for name, share in asked]
    return [number(quantile(values, share) if values else nan, "s") for values, share in found]


def _verdict(service: dict[str, float]) -> str:
    if len(service) < 2:
        return "One client: there is nothing to compare."
    return (
        f"Jain's index of service is <b>{jain(service.values()):.3f}</b> over {len(service)} "
        f"clients; it would be 1 if all had the same, and {1 / len(service):.3f} if one had all. "
        f"The most that one had is {number(max(service.values()), '')}, the least "
        f"{number(min(service.values()), '')}. Service counts a prompt token once and an output "
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
    return table((*head, "padding", "tokens: filled and empty"), rows)


def _bucket_row(bucket: Bucket, mine: list[StepRecord], total: float) -> tuple[str, ...]:
    filled = sum(record.num_tokens for record in mine) / (len(mine) * bucket.num_tokens)
    seconds = _seconds(mine)
    bar = f'<span class="bar" style="--filled:{100 * filled:.1f}%"></span>'
    shares = [number(seconds / total if total else 0.0, "%"), number(1 - filled, "%")]
    return str(bucket), number(len(mine), ""), number(seconds, "s"), *shares, bar


def _seconds(records: Iterable[StepRecord]) -> float:
    return sum(record.end - record.start for record in records)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{_row(*row)}</tr>" for row in rows)
    found = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{found}</div>'


def _row(first: str, *cells: str) -> str:
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells)
