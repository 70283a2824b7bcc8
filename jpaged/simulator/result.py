"""What a simulation, or a run of an engine, comes to: data frames, and a summary of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jpaged.scheduling.counsel import Counsel
from jpaged.scheduling.event_log import EventLog, about_engine, events
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.page_trace import PageTrace, Served

if TYPE_CHECKING:
    import pandas as pd

TIMES = ("ttft", "tpot", "latency")
LISTS = ("token_times", "pauses")  # fields of a request that have no place in a table
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Recorded(Served, Protocol):
    """An engine that keeps what it did."""

    @property
    def records(self) -> Iterable[StepRecord]: ...

    @property
    def ended(self) -> Iterable[RequestRecord]: ...


@dataclass
class Result:
    """The requests that ended, the steps, and those that were refused with the reason why.

    ended_on, run_on: for each request, the replica it ended on; for each step, the one it was on.
    about: the policy, the sizes, the model or what stands for it.  page_traces: one a replica, if
    pages were traced.  num_moved: how often a sequence went on elsewhere.  policy_seconds: what the
    policy took of this machine's own time, a step, as measured at some of them; no virtual clock
    counts it.  Of the last two a log does not say.
    """

    ended: list[RequestRecord] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # request, reason
    ended_on: list[int] = field(default_factory=list)
    run_on: list[int] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    page_traces: list[PageTrace] = field(default_factory=list)
    num_moved: int = 0
    policy_seconds: float | None = field(default=None, compare=False)

    @classmethod
    def of(cls, engine: "Recorded") -> "Result":
        """Of an engine, as far back as its `records` and `ended` go."""
        return cls(
            list(engine.ended),
            list(engine.records),
            about=about_engine(engine),
            policy_seconds=policy_seconds([engine.loop.scheduler.counsel]),
        )

    def save(self, path: str | Path) -> None:
        """Writes it as an event log, which `load` reads."""
        with EventLog(path) as log:
            log.begin(self.about)
            for index, record in enumerate(self.records):
                log.step(record, self.run_on[index] if self.run_on else 0)
            for index, record in enumerate(self.ended):
                log.request(record, self.ended_on[index] if self.ended_on else 0)
            for request, reason in self.refused:
                log.refused(request, reason)
            for replica, trace in enumerate(self.page_traces):
                for step in trace.steps:
                    log.pages(step, replica)

    @classmethod
    def load(cls, path: str | Path) -> "Result":
        """Reads an event log.  `about["cut_at"]` is the number of its last line, if that is not
        whole.  Raises `ConfigError` for what is no log, naming the line."""
        result = cls()
        for kind, replica, what in events(path):
            if kind == "log":
                result.about = what
            elif kind == "step":
                result.records.append(what)
                result.run_on.append(replica)
            elif kind == "request":
                result.ended.append(what)
                result.ended_on.append(replica)
            elif kind == "refused":
                result.refused.append(what)
            elif kind == "pages":
                while len(result.page_traces) <= replica:
                    sizes = result.about["num_pages"], result.about["page_size"]
                    result.page_traces.append(PageTrace(*sizes))
                result.page_traces[replica].add(what)
            else:
                result.about["cut_at"] = what
        return result

    def add_step(self, record: StepRecord, replica: int) -> None:
        self.records.append(record)
        self.run_on.append(replica)

    def add_request(self, record: RequestRecord, replica: int) -> None:
        self.ended.append(record)
        self.ended_on.append(replica)

    @property
    def requests(self) -> "pd.DataFrame":
        """A row a sequence that ended: the fields of `RequestRecord`, less the times of its tokens
        and pauses, and `ttft`, `tpot`, `latency` and `max_gap`, the longest wait for a token, in
        seconds."""
        names = [each.name for each in fields(RequestRecord) if each.name not in LISTS]
        rows = [
            [getattr(each, name) for name in (*names, *TIMES, "max_gap")] for each in self.ended
        ]
        frame = _frame(rows, [*names, *TIMES, "max_gap"])
        return frame.assign(replica=self.ended_on or 0)

    @property
    def steps(self) -> "pd.DataFrame":
        """A row a step: the fields of `StepRecord`, and `seconds` and `padding`, the share of its
        token slots that held none."""
        names = [each.name for each in fields(StepRecord)]
        rows = [[getattr(each, name) for name in names] for each in self.records]
        frame = _frame(rows, names).assign(replica=self.run_on or 0)
        padding = [each.padding for each in self.records]
        return frame.assign(seconds=frame["end"] - frame["start"], padding=padding)

    @property
    def seconds(self) -> float:
        """From the first arrival to the last token."""
        lasts = [each.last_token for each in self.ended if each.last_token is not None]
        return max(lasts) - min(each.arrival for each in self.ended) if lasts else 0.0

    def summary(self) -> dict[str, float]:
        """Rates a second, seconds as means, quantiles and maxima, shares from 0 to 1.

        goodput: requests a second that kept all that was promised; those without promises do.
        recompute_tax: the share of tokens computed more than once.  hit_rate: of prompt tokens that
        were found.  padding: the share of token slots that were empty, over all steps.
        """
        requests, seconds = self.requests, self.seconds
        finished = requests[requests["finish_reason"] != "abort"]
        found = {
            "num_requests": len(requests),
            "num_refused": len(self.refused),
            "seconds": seconds,
            "requests_per_second": len(finished) / seconds if seconds else 0.0,
            "tokens_per_second": finished["num_output"].sum() / seconds if seconds else 0.0,
            "goodput": sum(map(kept_promises, self.ended)) / seconds if seconds else 0.0,
            "num_preemptions": requests["num_preemptions"].sum(),
            "recompute_tax": _share(self.records, "num_recomputed", "num_tokens"),
            "hit_rate": requests["num_cached"].sum() / max(1, requests["num_prompt"].sum()),
            "padding": _padding(self.records),
        }
        for name in TIMES:
            values: Any = finished[name]  # a column; without values in it all is NaN
            found[f"{name}_mean"] = values.mean()
            found |= {f"{name}_{q}": values.quantile(at) for q, at in QUANTILES.items()}
            found[f"{name}_max"] = values.max()
        return {name: float(value) for name, value in found.items()}


def policy_seconds(counsels: Iterable[Counsel]) -> float | None:
    """What policies took a step; None if no step was timed."""
    spent = [(each.seconds, each.num_timed) for each in counsels]
    num_timed = sum(count for _, count in spent)
    return sum(seconds for seconds, _ in spent) / num_timed if num_timed else None


def kept_promises(record: RequestRecord) -> bool:
    """Whether a request ended, and in time for all that was promised to it."""
    if record.last_token is None or record.finish_reason == "abort":
        return False
    pairs = (
        (record.ttft, record.ttft_promised),
        (record.tpot, record.tpot_promised),
        (record.latency, record.deadline_promised),
    )
    return all(promised is None or (took or 0.0) <= promised for took, promised in pairs)


def _frame(rows: Iterable[list[Any]], names: list[str]) -> "pd.DataFrame":
    import pandas as pd  # an extra, which nothing else here needs

    return pd.DataFrame(rows, columns=names)


def _share(records: list[StepRecord], part: str, whole: str) -> float:
    total = sum(getattr(each, whole) for each in records)
    return sum(getattr(each, part) for each in records) / total if total else 0.0


def _padding(records: list[StepRecord]) -> float:
    slots = sum(each.bucket.num_tokens for each in records if each.bucket is not None)
    used = sum(each.num_tokens for each in records if each.bucket is not None)
    return 1 - used / slots if slots else 0.0
