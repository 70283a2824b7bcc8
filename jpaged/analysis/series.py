"""What went on over time, in bins of equal length: means of levels, and rates a second."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.simulator.result import Result

NUM_BINS = 160
LEVELS = ("num_sequences", "num_waiting", "pages_held", "pages_idle", "pages_free")
Means = list[float | None]


@dataclass(frozen=True)
class Bins:
    """`count` bins of `width` seconds from `start` on."""

    start: float
    width: float
    count: int

    @classmethod
    def over(cls, result: Result, count: int = NUM_BINS) -> "Bins":
        """From the first arrival, or step, to the last token, or step."""
        starts = [each.arrival for each in result.ended] + [each.start for each in result.records]
        ends = [each.end for each in result.records]
        ends += [each.last_token for each in result.ended if each.last_token is not None]
        start, end = min(starts, default=0.0), max(ends, default=0.0)
        return cls(start, max(end - start, 1e-9) / count, count)

    @property
    def edges(self) -> list[float]:
        """Where each bin ends, in seconds since the first one began."""
        return [self.width * (index + 1) for index in range(self.count)]

    def index(self, time: float) -> int:
        return min(self.count - 1, max(0, int((time - self.start) / self.width)))

    def overlaps(self, start: float, end: float) -> list[tuple[int, float]]:
        """The bins between two times, with the seconds that lie in each."""
        found = []
        for index in range(self.index(start), self.index(end) + 1):
            begin = self.start + index * self.width
            inside = min(end, begin + self.width) - max(start, begin)
            found.append((index, max(0.0, inside)))
        return found

    def sums(self, events: Iterable[tuple[float, float]]) -> list[float]:
        """Amounts by the bin that their time lies in."""
        found = [0.0] * self.count
        for time, amount in events:
            found[self.index(time)] += amount
        return found


def levels(bins: Bins, result: Result) -> dict[str, Means]:
    """Means over the time of steps, all replicas together; None where there was no step at all.

    A replica without a step in some bin is still there, as its latest step left it.
    """
    replicas = result.run_on or [0] * len(result.records)
    by_replica: dict[int, list[StepRecord]] = {}
    for record, replica in zip(result.records, replicas, strict=True):
        by_replica.setdefault(replica, []).append(record)
    if not by_replica:
        return {name: [None] * bins.count for name in LEVELS}
    rows = [_rows(bins, records) for records in by_replica.values()]
    num_unused = result.about.get("num_replicas", 1) - len(rows)
    rows += [[_empty(result.about.get("num_pages", 0))] * bins.count] * num_unused
    total = [[sum(parts) for parts in zip(*each, strict=True)] for each in zip(*rows, strict=True)]
    return {name: [row[index] for row in total] for index, name in enumerate(LEVELS)}


def _rows(bins: Bins, records: Sequence[StepRecord]) -> list[list[float]]:
    """The levels of one replica, a row a bin."""
    covered = [0.0] * bins.count
    sums = [[0.0] * len(LEVELS) for _ in range(bins.count)]
    last: dict[int, StepRecord] = {}  # to end in a bin
    for record in records:
        values = [getattr(record, name) for name in LEVELS]
        for index, seconds in bins.overlaps(record.start, record.end):
            covered[index] += seconds
            sums[index] = [a + b * seconds for a, b in zip(sums[index], values, strict=True)]
        last[bins.index(record.end)] = record
    rest, rows = _empty(_num_pages(records[0])), []
    for index in range(bins.count):
        if index in last:
            rest = _left_by(last[index])
        whole = covered[index]
        rows.append([part / whole for part in sums[index]] if whole else rest)
    return rows


def _empty(num_pages: int) -> list[float]:
    return [0, 0, 0, 0, num_pages]


def _left_by(record: StepRecord) -> list[float]:
    """The levels after a step, until the next one; who waited then waits."""
    held, idle = record.pages_held_after, record.pages_idle_after
    if held is None or idle is None:
        held, idle = record.pages_held, record.pages_idle
    return [0, record.num_waiting, held, idle, _num_pages(record) - held - idle]


def _num_pages(record: StepRecord) -> int:
    return record.pages_held + record.pages_idle + record.pages_free


def rates(bins: Bins, records: Iterable[StepRecord]) -> dict[str, list[float]]:
    """Tokens computed a second, for the first time and again; each step's spread over it."""
    first, again = [0.0] * bins.count, [0.0] * bins.count
    for record in records:
        seconds = max(record.end - record.start, 1e-12)
        for index, inside in bins.overlaps(record.start, record.end):
            share = inside / seconds / bins.width
            first[index] += share * (record.num_tokens - record.num_recomputed)
            again[index] += share * record.num_recomputed
    return {"first": first, "again": again}


def output_rate(bins: Bins, ended: Iterable[RequestRecord]) -> list[float]:
    """Tokens said a second; none where their times were not kept."""
    said = bins.sums((time, 1.0) for record in ended for time in record.token_times)
    return [count / bins.width for count in said]


def recompute_tax(bins: Bins, records: Sequence[StepRecord]) -> list[float]:
    """Of all tokens computed so far, the share that was computed before."""
    return _running_share(
        bins.sums((record.end, record.num_recomputed) for record in records),
        bins.sums((record.end, record.num_tokens) for record in records),
    )


def hit_rate(bins: Bins, ended: Iterable[RequestRecord]) -> list[float]:
    """Of all prompt tokens let in so far, the share that was found in the cache."""
    let_in = [(each.scheduled, each) for each in ended if each.scheduled is not None]
    return _running_share(
        bins.sums((time, record.num_cached) for time, record in let_in),
        bins.sums((time, record.num_prompt) for time, record in let_in),
    )


def _running_share(parts: list[float], wholes: list[float]) -> list[float]:
    pairs = zip(accumulate(parts), accumulate(wholes), strict=True)
    return [part / whole if whole else 0.0 for part, whole in pairs]
