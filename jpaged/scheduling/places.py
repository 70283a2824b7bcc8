"""Where layers with a window keep a page's keys and values, in models whose other layers see more.

Layers that see everything need a page as long as anybody holds it.  Those with a narrower window
need it only while a token to come looks at it, so they have fewer pages of their own: *places*.

    pages of a sequence     12   3   8   5   9       all held
    their places             ·   ·   7   2   4       of those within the window

Whoever holds a page and still looks at it is its *looker*.  A place without lookers is *idle* as
long as the prefix cache knows the page, for whoever finds it there before it is wanted elsewhere.

There are enough for all that every seat can look at and as much again, or as many as pages: they
never run out.
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence


class Places:
    """The places of one window.

    of: i32[num_pages], the place of each page; num_places if it has none.  Invariant: a place is
    free or one page's; and a page that is looked at has one.
    """

    def __init__(self, window: int, num_places: int, num_pages: int, page_size: int):
        self.window, self.num_places, self.page_size = window, num_places, page_size
        self.of = array("i", [num_places]) * num_pages
        self.num_lookers = [0] * num_pages
        self._free = deque(range(num_places))
        self._idle: OrderedDict[int, None] = OrderedDict()  # pages, least recently looked at first

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    @property
    def num_looked_at(self) -> int:
        return self.num_places - len(self._free) - len(self._idle)

    def seen_from(self, num_tokens: int) -> int:
        """The first page that is looked at by whoever goes on behind so many tokens.

        The last of them may be computed once more, and looks one token further back.
        """
        return max(0, (num_tokens - self.window) // self.page_size)

    def has(self, page: int) -> bool:
        return self.of[page] < self.num_places

    def give(self, pages: Iterable[int]) -> None:
        """Gives a place to each of these pages, which their only looker has just taken."""
        for page in pages:
            if not self._free:
                self.drop(next(iter(self._idle)))
            self.of[page] = self._free.popleft()
            self.num_lookers[page] = 1

    def look(self, pages: Iterable[int]) -> None:
        """Adds a looker to pages that have a place."""
        for page in pages:
            assert self.has(page), f"page {page} has no place for the window of {self.window}"
            self._idle.pop(page, None)
            self.num_lookers[page] += 1

    def leave(self, pages: Iterable[int], remembered: Sequence[bool]) -> None:
        """Takes a looker from each page.  remembered: which pages the prefix cache knows."""
        for page in pages:
            assert self.num_lookers[page] > 0, f"nobody looks at page {page}"
            self.num_lookers[page] -= 1
            if self.num_lookers[page] == 0:
                self._idle[page] = None
                if not remembered[page]:
                    self.drop(page)

    def drop(self, page: int) -> None:
        """Takes the place of a page that nobody looks at, if it has one."""
        if page in self._idle:
            del self._idle[page]
            self._free.append(self.of[page])
            self.of[page] = self.num_places

    def drop_idle(self) -> None:
        """The prefix cache knows no page any more."""
        for page in list(self._idle):
            self.drop(page)

    def check(self) -> None:
        """Asserts the invariants; for tests and debugging."""
        taken = [place for place in self.of if place < self.num_places]
        assert sorted([*taken, *self._free]) == list(range(self.num_places)), "a place is lost"
        looked_at = {page for page, count in enumerate(self.num_lookers) if count}
        assert looked_at.isdisjoint(self._idle), "an idle place is looked at"
        assert len(taken) == len(looked_at) + len(self._idle), "a place nobody knows of"
        assert all(map(self.has, looked_at)), "a page without a place is looked at"


def places_wanted(window: int, page_size: int, max_num_seqs: int, num_tokens: int) -> int:
    """What every seat can look at in one step of so many tokens: its window, one token further
    back for whoever forks there, and the pages at both ends.  And as much again for what the prefix
    cache keeps, or whoever is preempted would never find his pages again."""
    behind = (window + 1) // page_size + 2
    return 2 * max_num_seqs * behind + -(-num_tokens // page_size)
