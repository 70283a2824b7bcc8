"""What every page held during every step, kept as changes from one step to the next.

    trace = PageTrace.of(engine)       # from now on; or simulate(…, trace_pages=True)
    for step, cells in trace.replay(): …

A loop that nobody watches pays nothing.  One that is watched pays for a look at all pages a step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from jpaged.scheduling.events import StepRecord, name_of
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.prefix import CachedPage
from jpaged.scheduling.scheduler import Scheduler

MOST_CHANGES = 300_000  # some 10 MB in a log


class Cell(NamedTuple):
    """What a page holds: places with tokens that are, or were, somebody's.

    is_cached: the prefix cache knows it.  holders: numbers of sequences, see `PageTrace.names`.
    Free is `FREE`; idle is cached and has no holder.
    """

    num_tokens: int
    is_cached: bool
    holders: tuple[int, ...]


FREE = Cell(0, False, ())


class PageStep(NamedTuple):
    """A step: the cells that are others than in the step before, by page.

    new: names of sequences that were not seen before; their numbers go on from the last ones'.
    """

    index: int
    start: float
    end: float
    new: tuple[str, ...]
    changes: dict[int, Cell]


class Served(Protocol):
    """An engine, a replica: whatever has a serving loop."""

    @property
    def loop(self) -> ServingLoop: ...


class Sight(NamedTuple):
    """A moment of a pool: what the prefix cache knows of each page, and of those that are held the
    tokens and the holders."""

    known: list[CachedPage | None]
    held: dict[int, tuple[int, tuple[int, ...]]]

    def cell(self, page: int) -> Cell:
        known = self.known[page]
        if page in self.held:
            return Cell(self.held[page][0], known is not None, self.held[page][1])
        return FREE if known is None else Cell(len(known.tokens), True, ())

    def changed_since(self, before: "Sight") -> set[int]:
        """Pages that may have other cells.  Most have not: a cell is made for these only."""
        changed: set[int] = set()
        if self.known != before.known:  # in most steps it is not, and lists compare quickly
            pairs = enumerate(zip(self.known, before.known, strict=True))
            changed = {page for page, (now, then) in pairs if now is not then}
        then = before.held.get
        changed |= {page for page, holding in self.held.items() if holding != then(page)}
        return changed | (before.held.keys() - self.held.keys())


class PageWatcher:
    """Tells of each step what has changed since the one before."""

    def __init__(self, scheduler: Scheduler, tell: Callable[[PageStep], None]):
        self.scheduler, self.tell = scheduler, tell
        self._numbers: dict[tuple[int, str, int], int] = {}  # of sequences
        self._names: list[str] = []
        self._num_told = 0  # of the names
        num_pages = scheduler.pool.num_pages
        self._before = Sight([None] * num_pages, {})
        self._cells = [FREE] * num_pages

    def look(self) -> Sight:
        scheduler = self.scheduler
        size, cache = scheduler.pool.page_size, scheduler.cache
        held: dict[int, tuple[int, tuple[int, ...]]] = {}
        for sequence in scheduler.queues.running:
            number = self._number((sequence.serial, sequence.request.id, sequence.index))
            left = sequence.num_written - sequence.num_passed * size
            for page in sequence.held_pages:
                tokens, others = held.get(page, (0, ()))
                held[page] = max(tokens, min(size, left), 0), (*others, number)
                left -= size
        known = cache.known if cache is not None else {}
        return Sight(list(map(known.get, range(len(self._cells)))), held)

    def keep(self, record: StepRecord, seen: Sight) -> None:
        changes = {}
        for page in sorted(seen.changed_since(self._before)):
            cell = seen.cell(page)
            if cell != self._cells[page]:
                self._cells[page] = changes[page] = cell
        new = tuple(self._names[self._num_told :])
        self._before, self._num_told = seen, len(self._names)
        self.tell(PageStep(record.index, record.start, record.end, new, changes))

    def _number(self, key: tuple[int, str, int]) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._names.append(name_of(*key[1:]))
        return self._numbers[key]


@dataclass
class PageTrace:
    """The pages of one pool over many steps.

    names: the sequences that held any, as `name_of` calls them, by their numbers.  is_full: it has
    `most` changes, and holds no later step.
    """

    num_pages: int
    page_size: int
    most: int = MOST_CHANGES
    names: list[str] = field(default_factory=list)
    steps: list[PageStep] = field(default_factory=list)
    num_changes: int = 0
    is_full: bool = False

    @classmethod
    def of(cls, served: Served, most: int = MOST_CHANGES) -> "PageTrace":
        """Records what `served` does from now on; after an engine's `restore`, ask again."""
        loop = served.loop
        pool = loop.scheduler.pool
        trace = cls(pool.num_pages, pool.page_size, most)

        def tell(step: PageStep) -> None:
            trace.add(step)
            if trace.is_full and watcher in loop.watchers:
                loop.watchers.remove(watcher)

        watcher = PageWatcher(loop.scheduler, tell)
        loop.watchers.append(watcher)
        return trace

    def add(self, step: PageStep) -> None:
        self.is_full |= self.num_changes + len(step.changes) > self.most
        if not self.is_full:
            self.names += step.new
            self.steps.append(step)
            self.num_changes += len(step.changes)

    def replay(self) -> Iterator[tuple[PageStep, Sequence[Cell]]]:
        """Every step, and what all pages held during it."""
        cells = [FREE] * self.num_pages
        for step in self.steps:
            for page, cell in step.changes.items():
                cells[page] = cell
            yield step, tuple(cells)
