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
from collections.abc import Collection, Iterable
from typing import Protocol


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

    `keeper`, if there is one, names the idle page that goes first, and hears of it.
    """

    def __init__(self, num_pages: int, page_size: int, keeper: "Keeper | None" = None):
        self.num_pages = num_pages
        self.page_size = page_size
        self.keeper = keeper
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
    def num_held(self) -> int:
        return self.num_pages - self.num_free

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def allocate(self, count: int) -> list[int]:
        """Takes `count` pages, never-used ones before idle ones.  The caller checked `num_free`."""
        assert count <= self.num_free, f"{count} pages wanted, {self.num_free} free"
        return [self._take_one() for _ in range(count)]

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
        if self.keeper is not None:
            self.keeper.forget(page)
        return page

    def share(self, page: int) -> None:
        """Adds a holder to a page that is held or idle."""
        assert self.holders[page] or page in self._idle, f"page {page} is free"
        self._idle.pop(page, None)
        self.holders[page] += 1

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

    def forget_all(self) -> None:
        """No page is worth keeping any more: the idle ones are free."""
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
