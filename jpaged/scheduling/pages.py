"""Who holds which page of the cache.

A page is *free*, *idle* or *held*; never two of them.

    allocate                 release (last holder)
    free ───────────► held ───────────► free          nothing worth keeping in it
      ▲                ▲ │
      │ evicted, eldest│ └────────────► idle          the prefix cache remembers it
      └────────────────┼──────────────── │
                       └──── share ──────┘
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from jpaged.scheduling.places import Places


class Keeper(Protocol):
    """Whoever knows what idle pages hold."""

    def choose_idle(self, pages: Collection[int]) -> int:
        """The one that goes first; they come least recently used first."""
        ...

    def forget(self, page: int) -> None:
        """This page will be given to somebody else."""
        ...


class PagePool:
    """Counts the holders of every page.  Pages are numbers; the keys and values lie elsewhere.

    `keeper`, if there is one, names the idle page that goes first, and hears of it.  windows: the
    narrower windows of a model whose layers do not all see alike, and how many places each has.
    """

    def __init__(
        self,
        num_pages: int,
        page_size: int,
        keeper: "Keeper | None" = None,
        windows: Mapping[int, int] = MappingProxyType({}),
    ):
        self.num_pages = num_pages
        self.page_size = page_size
        self.keeper = keeper
        self.windows = tuple(
            Places(window, num_places, num_pages, page_size)
            for window, num_places in windows.items()
        )
        self.holders = [0] * num_pages
        self.remembered = [False] * num_pages
        self._free = deque(range(num_pages))
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently used first

    @property
    def num_free(self) -> int:
        """Pages that can be allocated now: the free ones and the idle ones."""
        return len(self._free) + len(self._idle)

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    @property
    def idle_pages(self) -> tuple[int, ...]:
        """Least recently used first."""
        return tuple(self._idle)

    @property
    def num_held(self) -> int:
        return self.num_pages - self.num_free

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def allocate(self, count: int, unseen: Sequence[int] = ()) -> list[int]:
        """Takes `count` pages, never-used ones before idle ones.  The caller checked `num_free`.

        unseen: for each of the windows, how many of the first ones nobody will look at.
        """
        assert count <= self.num_free, f"{count} pages wanted, {self.num_free} free"
        pages = [self._take_one() for _ in range(count)]
        for index, places in enumerate(self.windows):
            places.give(pages[unseen[index] :] if unseen else pages)
        return pages

    def _take_one(self) -> int:
        if self._free:
            page = self._free.popleft()
        else:
            page = self._evict()
        self.holders[page] = 1
        return page

    def _evict(self) -> int:
        idle = self._idle
        page = next(iter(idle)) if self.keeper is None else self.keeper.choose_idle(idle.keys())
        del idle[page]
        self.remembered[page] = False
        for places in self.windows:
            places.drop(page)
        if self.keeper is not None:
            self.keeper.forget(page)
        return page

    def share(self, page: int) -> None:
        """Adds a holder to a page that is held or idle."""
        assert self.holders[page] or page in self._idle, f"page {page} is free"
        self._idle.pop(page, None)
        self.holders[page] += 1

    def numbers(self, page: int) -> tuple[int, ...]:
        """The page, and its place for each of the windows."""
        return page, *(places.of[page] for places in self.windows)

    def num_in_sight(self, pages: Sequence[int]) -> int:
        """How many of a sequence's first pages one can go on behind: all that one would look at
        then are in their places."""
        count = len(pages)
        while self.windows and count:
            last_missing = max(self._last_missing(places, pages[:count]) for places in self.windows)
            if last_missing < 0:
                break
            count = last_missing
        return count

    def _last_missing(self, places: Places, pages: Sequence[int]) -> int:
        first = places.seen_from(len(pages) * self.page_size)
        backwards = range(len(pages) - 1, first - 1, -1)
        return next((i for i in backwards if not places.has(pages[i])), -1)

    def is_shared(self, page: int) -> bool:
        """Whether anybody but one holder may read it: another one, or who finds it in the cache."""
        return self.holders[page] > 1 or self.remembered[page]

    def release(self, pages: Iterable[int]) -> None:
        """Gives up one hold on each page.  Release a sequence's last page first: it is then the
        first to be evicted, and a cached prefix shrinks from its tail."""
        for page in pages:
            assert self.holders[page] > 0, f"page {page} is held by nobody"
            self.holders[page] -= 1
            if self.holders[page] == 0:
                self._set_aside(page)

    def _set_aside(self, page: int) -> None:
        if self.remembered[page]:
            self._idle[page] = None
        else:
            self._free.append(page)

    def remember(self, page: int) -> None:
        """Marks a held page as worth keeping after its last holder has gone."""
        assert self.holders[page] > 0, f"page {page} is held by nobody"
        self.remembered[page] = True

    def forget(self, page: int) -> None:
        """A held page is not worth keeping after all."""
        self.remembered[page] = False
        for places in self.windows:
            places.drop(page)

    def forget_all(self) -> None:
        """No page is worth keeping any more: the idle ones are free."""
        for places in self.windows:
            places.drop_idle()
        self.remembered = [False] * self.num_pages
        self._free.extend(self._idle)
        self._idle.clear()

    def check(self) -> None:
        """Asserts the invariants; for tests and debugging."""
        free, idle = set(self._free), set(self._idle)
        held = {page for page, holders in enumerate(self.holders) if holders}
        assert len(free) == len(self._free), "a page is twice on the free list"
        assert not free & idle and not free & held and not idle & held, "a page in two states"
        assert len(free) + len(idle) + len(held) == self.num_pages, "a page is lost"
        assert all(self.remembered[page] for page in idle), "an idle page nobody remembers"
        for places in self.windows:
            places.check()
            assert not any(map(places.has, free)), "a free page has a place"
