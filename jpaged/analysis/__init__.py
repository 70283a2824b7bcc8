"""Tables, figures and pages from event logs.  Here pandas and matplotlib are allowed, and nowhere
else.

    report(result, "report.html")          a page that shows a run
    to_perfetto(result, "trace.json")      for ui.perfetto.dev
    read_log("run.jsonl")                  what `EventLog` or `Result.save` wrote
    Result.of(engine)                      a run of an engine that was not logged
    compare_page.compare_page(found, …)    the page of `jpaged compare`, as text
    search_page.search_page(found, …)      the page of `jpaged search`
"""

from pathlib import Path

from jpaged.analysis.perfetto import to_perfetto
from jpaged.analysis.report import report
from jpaged.scheduling.event_log import EventLog
from jpaged.scheduling.page_trace import PageTrace
from jpaged.simulator.result import Result


def read_log(path: str | Path) -> Result:
    """The run that an event log tells of; see `Result.load`."""
    return Result.load(path)


__all__ = ["EventLog", "PageTrace", "Result", "read_log", "report", "to_perfetto"]
