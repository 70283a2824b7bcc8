"""What the page shows of an engine: a moment of it, and what it did since the last one.

engine.listeners ─► tokens ┐
engine.stats ──────────────┤
engine.page_report() ──────┼─► Snapshot, shared by all who watch
service.live ──────────────┘
"""

import asyncio
import time
from collections import deque
from itertools import groupby

import msgspec

from jpaged.engine.client import StepNews
from jpaged.scheduling.report import Holding, PageReport
from jpaged.server.models import Served
from jpaged.server.progress import Progress
from jpaged.server.service import Service, Started

PERIOD = 0.25  # seconds between two looks
RATE_SECONDS = 1.0  # that tokens a second are counted over: what a busy engine says comes in gusts
PAGES_A_SECOND = 50_000  # of a large cache one looks less often
MOST_CELLS = 4096  # of the picture; of a larger cache, a cell is several pages
FREE, CACHED, FIRST_REQUEST = 0, 1, 2


class Row(msgspec.Struct):
    """A request.  state: "waiting", "running", "preempted", or "leaving" when it is over for the
    engine or for its reader, and the other one has not heard of it yet.  num_tokens: in its pages.
    num_said: tokens that its reader got."""

    id: str
    state: str
    seconds: float
    num_prompt: int
    num_said: int
    num_tokens: int
    num_pages: int
    num_shared: int


class Snapshot(msgspec.Struct):
    """cells: of the picture, in runs: what they hold, how many, …; 0 is free, 1 is cached, 2 is the
    first of `requests`.  shared: cells that more than one holds.  tokens_per_second: over the
    latest second, None for the first."""

    is_healthy: bool
    policy: str
    num_running: int
    num_waiting: int
    num_pages: int
    page_size: int
    num_held: int
    num_shared: int
    num_cached: int
    num_free: int
    num_looked_up: int
    num_hits: int
    num_preemptions: int
    tokens_per_second: float | None
    requests: list[Row]
    pages_per_cell: int
    cells: list[int]
    shared: list[int]


class Watch:
    """One model, while somebody watches."""

    def __init__(self, service: Service, served: Served):
        self.service, self.served = service, served
        self.period = max(PERIOD, served.engine.card.num_pages / PAGES_A_SECOND)
        self.num_viewers = 0
        self._num_said = 0
        self._latest: Snapshot | None = None
        self._at = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque()  # when, and how many were said by then
        self._turn = asyncio.Lock()

    def begin(self) -> None:
        """For one more viewer."""
        if not self.num_viewers:
            self.served.engine.listeners.append(self._hear)
        self.num_viewers += 1

    def end(self) -> None:
        self.num_viewers -= 1
        if not self.num_viewers:
            self.served.engine.listeners.remove(self._hear)

    def _hear(self, news: StepNews) -> None:
        for output in news.outputs:
            self._num_said += sum(len(sample.token_ids) for sample in output.outputs)

    async def look(self) -> Snapshot:
        """The latest, if it is not older than the period.  Raises `EngineDied`."""
        async with self._turn:
            if self._latest is None or time.monotonic() - self._at > 0.8 * self.period:
                report = await self.served.engine.page_report()
                self._at = time.monotonic()
                self._latest = self._snapshot(report)
            return self._latest

    def _snapshot(self, report: PageReport) -> Snapshot:
        engine, stats = self.served.engine, self.served.engine.stats
        shared = shared_pages(report.holdings)
        rows = _rows(report.holdings, shared, self._live(), self._at)
        per_cell = -(-report.num_pages // MOST_CELLS)
        return Snapshot(
            is_healthy=engine.is_healthy,
            policy=engine.card.policy,
            num_running=stats.num_running,
            num_waiting=stats.num_waiting,
            num_pages=report.num_pages,
            page_size=report.page_size,
            num_held=report.held,
            num_shared=report.shared,
            num_cached=report.cached,
            num_free=report.free,
            num_looked_up=stats.prefix_cache_queries,
            num_hits=stats.prefix_cache_hits,
            num_preemptions=stats.counts.num_preemptions,
            tokens_per_second=self._rate(),
            requests=rows,
            pages_per_cell=per_cell,
            cells=runs(cells_of(report, [row.id for row in rows], per_cell)),
            shared=sorted({page // per_cell for page in shared}),
        )

    def _rate(self) -> float | None:
        marks = self._marks
        marks.append((self._at, self._num_said))
        while len(marks) > 2 and marks[1][0] <= self._at - RATE_SECONDS:
            marks.popleft()
        since, said = marks[0]
        return (self._num_said - said) / (self._at - since) if len(marks) > 1 else None

    def _live(self) -> list[Started]:
        return [each for each in self.service.live if each.served is self.served]


def shared_pages(holdings: tuple[Holding, ...]) -> set[int]:
    """Those that more than one sequence holds."""
    seen: set[int] = set()
    shared: set[int] = set()
    for holding in holdings:
        for page in holding.pages:
            (shared if page in seen else seen).add(page)
    return shared


def _rows(
    holdings: tuple[Holding, ...], shared: set[int], live: list[Started], now: float
) -> list[Row]:
    """The requests, the eldest first."""
    held: dict[str, list[Holding]] = {}
    for each in holdings:
        held.setdefault(each.request_id, []).append(each)
    rows = [_row(started, held.pop(started.request.id, []), shared, now) for started in live]
    rows += [_gone(request_id, parts, shared) for request_id, parts in held.items()]
    return sorted(rows, key=lambda row: (-row.seconds, row.id))


def _row(started: Started, parts: list[Holding], shared: set[int], now: float) -> Row:
    pages = {page for part in parts for page in part.pages}
    return Row(
        id=started.request.id,
        state=state_of(bool(pages), started.progress, started.ask.params.n),
        seconds=now - started.request.arrival,
        num_prompt=len(started.request.prompt),
        num_said=started.progress.num_tokens,
        num_tokens=sum(part.num_tokens for part in parts),
        num_pages=len(pages),
        num_shared=len(pages & shared),
    )


def state_of(holds_pages: bool, progress: Progress, num_samples: int) -> str:
    if holds_pages:
        return "running"
    if progress.first is None:
        return "waiting"
    return "leaving" if len(progress.finish_reasons) == num_samples else "preempted"


def _gone(request_id: str, parts: list[Holding], shared: set[int]) -> Row:
    pages = {page for part in parts for page in part.pages}
    tokens = sum(part.num_tokens for part in parts)
    return Row(request_id, "leaving", 0.0, 0, 0, tokens, len(pages), len(pages & shared))


def cells_of(report: PageReport, ids: list[str], per_cell: int) -> list[int]:
    """What each cell holds, of a shared one the eldest holder.  Of several pages in a cell, one
    that is held is shown."""
    numbers = {request_id: FIRST_REQUEST + at for at, request_id in enumerate(ids)}
    cells = [FREE] * -(-report.num_pages // per_cell)
    for page in report.cached_pages:
        cells[page // per_cell] = CACHED
    for holding in report.holdings:
        number = numbers[holding.request_id]
        for page in holding.pages:
            cell = page // per_cell
            before = cells[cell]
            cells[cell] = number if before < FIRST_REQUEST else min(before, number)
    return cells


def runs(cells: list[int]) -> list[int]:
    return [number for value, run in groupby(cells) for number in (value, len(list(run)))]
