"""The report's tables, in HTML: they can be read, and copied, without any script."""

from collections.abc import Iterable, Sequence
from html import escape
from math import isnan

import pandas as pd

from jpaged.analysis.fairness import jain, service_by_client
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
    requests = result.requests
    finished = requests[requests["finish_reason"] != "abort"]
    rows = []
    for name in (*TIMES, "max_gap"):
        values = finished[name].dropna().astype(float)
        shares = [values.quantile(share) for share in (0.5, 0.9, 0.99)]
        cells = [values.mean(), *shares, values.max()]
        rows.append((NAMES[name], *[_number(float(each), "s") for each in cells]))
    return _table(("", "mean", "p50", "p90", "p99", "max"), rows)


def clients_table(result: Result) -> str:
    """A row a client: what it asked, what it got, and how soon."""
    requests, service = result.requests, service_by_client(result.ended)
    total = sum(service.values())
    rows = []
    for client, mine in requests.groupby("client"):
        part = service[str(client)]
        counts = [mine["num_prompt"].sum(), mine["num_output"].sum(), part]
        waits = [mine["ttft"].median(), mine["ttft"].quantile(0.9), mine["latency"].median()]
        cells = [_number(float(len(mine)), ""), *[_number(float(each), "") for each in counts]]
        cells.append(_number(part / total if total else 0.0, "%"))
        rows.append(
            (escape(str(client)) or "(none)", *cells, *[_number(each, "s") for each in waits])
        )
    head = ("client", "sequences", "prompt tokens", "output tokens", "service", "share")
    table = _table((*head, "TTFT p50", "TTFT p90", "end to end p50"), rows)
    return f"<p>{_verdict(service)}</p>{table}"


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
    steps = result.steps
    if steps["bucket"].isna().all():
        return "<p>No step was padded: this run has no buckets.</p>"
    steps = steps[steps["bucket"].notna()]
    groups = steps.assign(name=[str(bucket) for bucket in steps["bucket"]]).groupby("name")
    all_seconds = steps["seconds"].sum()
    ranked = sorted(groups, key=lambda pair: -pair[1]["seconds"].sum())
    rows = [_bucket_row(str(name), mine, all_seconds) for name, mine in ranked]
    head = ("bucket (tokens, sequences, pages)", "steps", "seconds", "share of time")
    return _table((*head, "padding", "tokens: filled and empty"), rows)


def _bucket_row(name: str, mine: pd.DataFrame, all_seconds: float) -> tuple[str, ...]:
    slots = sum(bucket.num_tokens for bucket in mine["bucket"])
    padding, seconds = 1 - mine["num_tokens"].sum() / slots, mine["seconds"].sum()
    bar = f'<span class="bar" style="--filled:{100 * (1 - padding):.1f}%"></span>'
    numbers = [_number(float(len(mine)), ""), _number(seconds, "s")]
    shares = [_number(seconds / all_seconds if all_seconds else 0.0, "%"), _number(padding, "%")]
    return name, *numbers, *shares, bar


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
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
