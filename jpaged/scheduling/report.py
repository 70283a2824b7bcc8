"""Where the pages are at one moment, and what they hold: pages by holder, shared, cached, free.

Waste is what Kwon et al. (SOSP 2023, figure 2) call so: memory that is held and holds no token.
Pages are taken as tokens come, one at a time: nothing is reserved, and pages of one size leave no
gaps between them, so all of it is internal, the unfilled ends of last pages.
"""

from collections import Counter
from dataclasses import dataclass, field

from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler


@dataclass(frozen=True)
class Holding:
    """What one sequence holds: pages, those of them that others hold, too, and its tokens there.

    pages: their numbers, in reading order.
    """

    request_id: str
    index: int
    num_pages: int
    num_shared: int
    num_tokens: int
    pages: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class WindowUse:
    """Layers of a narrower window: of their places, how many are looked at, and how many are kept
    for their prefix.  A page that left the window of all its holders has none."""

    window: int
    num_places: int
    looked_at: int
    cached: int


@dataclass(frozen=True)
class PageReport:
    """A moment of the page pool.  held + cached + free = num_pages.

    shared: held by more than one.  cached: held by nobody, but kept for their prefix; their numbers
    are `cached_pages`, those in front that are evicted first.  unshared: what would be held if
    nothing were shared.  num_empty: places in held pages that hold no token.  swapped: pages on the
    host, of host_pages.  windows: of a model whose layers do not all see alike.  `print` it for a
    table.
    """

    num_pages: int
    page_size: int
    held: int
    shared: int
    cached: int
    free: int
    unshared: int
    num_empty: int
    swapped: int
    host_pages: int
    holdings: tuple[Holding, ...]
    windows: tuple[WindowUse, ...] = ()
    cached_pages: tuple[int, ...] = field(default=(), repr=False)

    @property
    def waste(self) -> float:
        """The share of held memory that holds no token, from 0 to 1."""
        return self.num_empty / (self.held * self.page_size) if self.held else 0.0

    @property
    def sharing(self) -> float:
        """The share of pages that sharing saves, from 0 to 1."""
        return 1 - self.held / self.unshared if self.unshared else 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.num_pages} pages of {self.page_size} tokens: {self.held} held "
            f"({self.shared} by more than one), {self.cached} cached, {self.free} free; "
            f"{self.swapped} of {self.host_pages} on the host",
            f"waste {self.waste:.1%} of what is held; sharing saves {self.sharing:.1%}",
        ]
        lines += [
            f"layers that see {each.window} tokens: {each.looked_at} of {each.num_places} places "
            f"looked at, {each.cached} cached"
            for each in self.windows
        ]
        if self.holdings:
            lines.append(f"{'request':20} {'sample':>6} {'pages':>6} {'shared':>6} {'tokens':>6}")
        lines += [
            f"{each.request_id:20} {each.index:6} {each.num_pages:6} {each.num_shared:6} "
            f"{each.num_tokens:6}"
            for each in self.holdings
        ]
        return "\n".join(lines)


def page_report(scheduler: Scheduler) -> PageReport:
    """Between steps; what a step on its way will have written counts as there."""
    pool, running, host = scheduler.pool, scheduler.running, scheduler.queues.host
    unshared = sum(len(sequence.held_pages) for sequence in running)
    return PageReport(
        num_pages=pool.num_pages,
        page_size=pool.page_size,
        held=pool.num_held,
        shared=sum(count > 1 for count in pool.holders),
        cached=pool.num_idle,
        free=pool.num_free - pool.num_idle,
        unshared=unshared,
        num_empty=num_empty_slots(running, pool.page_size),
        swapped=host.num_used,
        host_pages=host.num_pages,
        holdings=tuple(_holding(sequence, pool.holders, pool.page_size) for sequence in running),
        windows=tuple(
            WindowUse(each.window, each.num_places, each.num_looked_at, each.num_idle)
            for each in pool.windows
        ),
        cached_pages=pool.idle_pages,
    )


def num_empty_slots(running: tuple[Sequence, ...] | list[Sequence], page_size: int) -> int:
    """Places in held pages that hold no token; in a shared one, of who holds the most."""
    used: Counter[int] = Counter()
    for sequence in running:
        full, rest = divmod(sequence.num_written, page_size)
        for page in sequence.pages[full:]:
            used[page] = max(used[page], rest)
            rest = 0
    # in the page of one who has only begun it another may have finished
    filled = {p for s in running for p in s.pages[s.num_passed : s.num_written // page_size]}
    return sum(page_size - count for page, count in used.items() if page not in filled)


def _holding(sequence: Sequence, holders: list[int], page_size: int) -> Holding:
    return Holding(
        request_id=sequence.request.id,
        index=sequence.index,
        num_pages=len(sequence.held_pages),
        num_shared=sum(holders[page] > 1 for page in sequence.held_pages),
        num_tokens=sequence.num_written - sequence.num_passed * page_size,
        pages=tuple(sequence.held_pages),
    )
