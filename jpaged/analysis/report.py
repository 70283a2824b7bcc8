"""A run as one page of HTML, to be read, sent and kept: no network, no library, light and dark.

Result ──► report_data: numbers ──► JSON inside the page ──► its script draws them
       └─► tables, in plain HTML, there without a script
"""

from pathlib import Path
from string import Template
from typing import Any

from jpaged.analysis import series
from jpaged.analysis.distributions import distributions
from jpaged.analysis.fairness import jain, service_by_client, service_over_time
from jpaged.analysis.frame import asset, framed
from jpaged.analysis.gantt import gantt_data
from jpaged.analysis.page_picture import picture_data
from jpaged.analysis.tables import buckets_table, clients_table, latency_table, summary_table
from jpaged.scheduling.events import RequestRecord
from jpaged.simulator.result import Result, kept_promises

SCRIPTS = ("chart.js", "plane.js", "gantt.js", "pages.js", "report.js")
SECTIONS = {
    "summary": "Summary",
    "latency": "Latency",
    "time": "Over time",
    "goodput": "Goodput",
    "fairness": "Fairness",
    "padding": "Padding",
    "requests": "Requests",
    "pages": "Pages",
}
MOST_LINES = 8  # clients with a curve of their own


def report(result: Result | str | Path, path: str | Path, title: str = "jpaged run") -> None:
    """Writes the page.  result: what a simulation returned, `Result.of(engine)`, or the path of an
    event log.  Raises `ValueError` where nothing ended: there is nothing to show."""
    if not isinstance(result, Result):
        result = Result.load(result)
    if not result.ended:
        raise ValueError(
            f"{len(result.records)} steps and no request that ended: nothing to report; serve some"
        )
    body = Template(asset("report.html")).substitute(
        summary=summary_table(result),
        latency=latency_table(result),
        clients=clients_table(result),
        buckets=buckets_table(result),
    )
    page = framed(title, result.about, SECTIONS, body, SCRIPTS, report_data(result))
    Path(path).write_text(page, encoding="utf-8")


def report_data(result: Result) -> dict[str, Any]:
    """The numbers that the page draws; times in seconds since the first arrival or step."""
    bins = series.Bins.over(result)
    return {
        "summary": result.summary(),
        "seconds": result.seconds,
        "distributions": distributions(result.ended),
        "over_time": _over_time(result, bins),
        "goodput": _goodput(result),
        "fairness": _fairness(result, bins),
        "gantt": gantt_data(result.ended, bins.start),
        "pages": [picture_data(trace, bins.start) for trace in result.page_traces],
    }


def _over_time(result: Result, bins: series.Bins) -> dict[str, Any]:
    found: dict[str, Any] = {"t": bins.edges, "width": bins.width}
    found |= series.levels(bins, result) | series.rates(bins, result.records)
    found["said"] = series.output_rate(bins, result.ended)
    found["preempted"] = bins.sums((each.start, each.num_preempted) for each in result.records)
    found["recompute_tax"] = series.recompute_tax(bins, result.records)
    found["hit_rate"] = series.hit_rate(bins, result.ended)
    return found


def _goodput(result: Result) -> dict[str, Any]:
    """What the page needs to say which share kept its promises, or others that a reader makes."""
    seconds = result.seconds
    num_kept = sum(map(kept_promises, result.ended))
    ended = result.ended
    is_done = [
        record.last_token is not None and record.finish_reason != "abort" for record in ended
    ]
    return {
        "ttft": [each.ttft if done else None for each, done in zip(ended, is_done, strict=True)],
        "tpot": [each.tpot if done else None for each, done in zip(ended, is_done, strict=True)],
        "stretch": [stretch(record) for record in ended],
        "num_promised": sum(map(_has_promises, ended)),
        "num_refused": len(result.refused),
        "share_kept": num_kept / (len(ended) + len(result.refused)),
        "kept_per_second": num_kept / seconds if seconds else 0.0,
    }


def stretch(record: RequestRecord) -> float | None:
    """By how much its promises would have to be wider for it to keep them all: 1 or less if it
    does.  None if nothing was promised, or it was not served to its end."""
    pairs = (
        (record.ttft, record.ttft_promised),
        (record.tpot, record.tpot_promised),
        (record.latency, record.deadline_promised),
    )
    if record.last_token is None or record.finish_reason == "abort":
        return None
    return max([(took or 0.0) / asked for took, asked in pairs if asked is not None], default=None)


def _has_promises(record: RequestRecord) -> bool:
    asked = (record.ttft_promised, record.tpot_promised, record.deadline_promised)
    return any(each is not None for each in asked)


def _fairness(result: Result, bins: series.Bins) -> dict[str, Any]:
    service = service_by_client(result.ended)
    over_time = service_over_time(result.ended, [bins.start + edge for edge in bins.edges])
    columns = list(zip(*over_time.values(), strict=True))
    largest = sorted(service, key=lambda client: -service[client])[:MOST_LINES]
    return {
        "service": service,
        "jain": jain(service.values()),
        "gap": max(service.values()) - min(service.values()),
        "jain_over_time": [jain(column) for column in columns],
        "gap_over_time": [max(column) - min(column) for column in columns] if columns else [],
        "service_over_time": {
            client: over_time[client] for client in largest if client in over_time
        },
    }
