"""What a sequence need not compute because somebody else has: in the cache, or in its family.

    full pages      held together from now on
    half a page     held together too, and copied before one of them writes on

The last known token is computed in any case, for what follows from it; if it lies in a page that
was found it is *reread*: computed once more, not written.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.prefix import PrefixCache, extend_keys, num_common
from jpaged.scheduling.request import Sequence, Status

Grants = Mapping[Sequence, int]  # tokens that will be computed in the step in the making


class Found(NamedTuple):
    """Pages that hold a sequence's first `num_tokens` tokens, after the step in the making.

    num_there: how many of them are there before it.  writer: the relative who writes the others.
    num_passed: leading pages that nobody looks at, and nobody need hold.
    """

    pages: list[int]
    num_tokens: int
    num_there: int
    writer: Sequence | None = None
    num_passed: int = 0


class Sharing:
    """Looks for tokens that are computed already.  Takes no hold on what it finds."""

    def __init__(self, pool: PagePool, cache: PrefixCache | None, window: int | None = None):
        self.pool = pool
        self.cache = cache
        self.window = window
        self.begin_step()

    def begin_step(self) -> None:
        """From now on a new step is made."""
        # what only the step itself fills can be shared in it, but not be copied before it
        self.in_the_making: set[int] = set()  # full pages, and copies
        self.num_there: dict[Sequence, int] = {}  # of those who share such pages

    def find(self, sequence: Sequence, granted: Grants) -> Found:
        """The most that a waiting sequence can begin with."""
        found = self._in_family(sequence, granted)
        if found.num_tokens >= len(sequence.tokens) or not self.is_looked_up(sequence):
            return found
        cached = self._in_cache(sequence)
        return cached if cached.num_tokens > found.num_tokens else found

    def num_there_of(self, sequence: Sequence) -> int:
        """How many of its tokens are in its pages before the step in the making."""
        pages, size = enumerate(sequence.held_pages, sequence.num_passed), self.pool.page_size
        new = next((i * size for i, page in pages if page in self.in_the_making), None)
        there = self.num_there.get(sequence, sequence.num_computed)
        return there if new is None else min(there, new)

    def is_looked_up(self, sequence: Sequence) -> bool:
        """A request for log-probabilities of its prompt needs all of it computed."""
        return self.cache is not None and sequence.request.params.prompt_logprobs is None

    def next_pages(self, sequence: Sequence) -> list[int]:
        """The full pages in the cache that come behind those which the sequence has."""
        if self.cache is None or not self.is_looked_up(sequence):
            return []
        self._extend_keys(sequence)
        have = sequence.pages
        pages = [*have, *self.cache.match(sequence.page_keys[len(have) :])]
        return pages[len(have) : self.pool.num_in_sight(pages)]

    def awaits_relative(self, sequence: Sequence, granted: Grants) -> bool:
        """Whether a relative is just computing the prompt: a waiting one had better share it."""
        prompt = sequence.num_prompt
        return any(
            relative.status is Status.RUNNING
            and relative.num_computed + granted.get(relative, 0) < prompt
            for relative in sequence.family
        )

    def is_in_sight(self, pages: list[int], num_tokens: int) -> bool:
        """Whether all pages are in their places that one looks at behind so many tokens."""
        return all(
            all(map(places.has, pages[places.seen_from(num_tokens) :]))
            for places in self.pool.windows
        )

    def _in_family(self, sequence: Sequence, granted: Grants) -> Found:
        best = Found([], 0, 0)
        for relative in sequence.family:
            if relative.status is Status.RUNNING:
                shared = self._with_relative(sequence, relative, granted.get(relative, 0))
                best = max(best, shared, key=lambda found: found.num_tokens)
        return best

    def _with_relative(self, sequence: Sequence, relative: Sequence, promised: int) -> Found:
        size, known = self.pool.page_size, len(sequence.tokens)
        common = num_common(sequence.tokens, relative.tokens, relative.num_computed + promised)
        there = min(common, self.num_there.get(relative, relative.num_written))
        full, rest = divmod(common, size)
        if rest and common < known:  # it would write on in a copy of the last page
            is_new = relative.pages[full] in self.in_the_making
            common = full * size if is_new else max(there, full * size)
        passed = relative.num_passed
        if passed and self.window and common - 1 - self.window < passed * size:
            return Found([], 0, 0)  # the relative has moved on, and let go of what it would need
        pages = relative.pages[: self.pool.pages_for(common)]
        if not self.is_in_sight(pages, common):
            return Found([], 0, 0)
        writer = relative if common > there else None
        return Found(pages, common, min(there, common), writer, passed)

    def _in_cache(self, sequence: Sequence) -> Found:
        assert self.cache is not None
        self._extend_keys(sequence)
        pages, size = self.cache.match(sequence.page_keys), self.pool.page_size
        pages = pages[: self.pool.num_in_sight(pages)]
        count = len(pages) * size
        parent = sequence.page_keys[len(pages) - 1] if pages else sequence.cache_root
        rest = sequence.tokens[count : count + size]
        page, more = self.cache.match_tail(parent, rest, self._can_be_copied)
        if pays(more, size):
            pages, count = [*pages, page], count + more
        places = enumerate(pages)
        there = next((i * size for i, page in places if page in self.in_the_making), count)
        return Found(pages, count, there)

    def _can_be_copied(self, page: int) -> bool:
        """Whether a page is there before the step, for layers of every window."""
        has_places = all(places.has(page) for places in self.pool.windows)
        return has_places and page not in self.in_the_making

    def _extend_keys(self, sequence: Sequence) -> None:
        size, tokens = self.pool.page_size, sequence.tokens
        extend_keys(sequence.page_keys, tokens, size, len(tokens), sequence.cache_root)


def pays(num_tokens: int, page_size: int) -> bool:
    """Whether so many tokens of a page are worth a copy of it."""
    return 4 * num_tokens >= page_size
