"""Who waits, who runs, and what they hold: the moves of a sequence between the queues.

          admit                    finish
waiting ─────────► running ───────────────────► (gone)
   ▲                │  │ ▲
   └────────────────┘  └─┘
      preempt, retreat   fork
"""

from bisect import insort
from collections.abc import Iterator

from jpaged.scheduling.host import HostRoom
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.prefix import PrefixCache, chain_key, extend_keys
from jpaged.scheduling.request import Sequence, Status
from jpaged.scheduling.sharing import Found, Sharing, pays


class Queues:
    """The waiting and the running, and the page pool they share.

    Invariants: a waiting sequence holds no page; `waiting` is sorted by arrival; `running` is in
    order of admission, so its first is the eldest.
    """

    def __init__(
        self,
        pool: PagePool,
        max_num_seqs: int,
        cache: PrefixCache | None,
        num_host_pages: int = 0,
        window: int | None = None,
    ):
        self.pool = pool
        self.cache = cache
        self.window = window
        self.host = HostRoom(num_host_pages)
        self.sharing = Sharing(pool, cache, window)
        self.max_num_seqs = max_num_seqs
        self.waiting: list[Sequence] = []
        self.waiting_set: set[Sequence] = set()
        self.running: list[Sequence] = []

    def __contains__(self, sequence: Sequence) -> bool:
        if sequence.status is Status.RUNNING:
            return True
        return sequence in self.waiting_set

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    @property
    def num_free_seats(self) -> int:
        return self.max_num_seqs - len(self.running)

    def enqueue(self, sequence: Sequence) -> None:
        sequence.status = Status.WAITING
        insort(self.waiting, sequence, key=lambda other: other.serial)
        self.waiting_set.add(sequence)

    def admit(self, sequence: Sequence, found: Found) -> None:
        """Moves a sequence from waiting to running, with the pages that were found for it."""
        self.waiting.remove(sequence)
        self.waiting_set.remove(sequence)
        sequence.status = Status.RUNNING
        self.running.append(sequence)
        self._share(sequence, found.pages, found.num_tokens, found.num_passed)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Lets the child run beside its parent, on the same pages."""
        child.status = Status.RUNNING
        self.running.append(child)
        written = min(parent.num_written, len(child.tokens))
        pages = parent.pages[: self.pool.pages_for(written)]
        self._share(child, pages, written, parent.num_passed)

    def _share(
        self, sequence: Sequence, pages: list[int], num_tokens: int, num_passed: int
    ) -> None:
        """Begins with pages that hold the first `num_tokens` tokens.

        If that is all of them the last is computed again, for what follows from it.
        """
        for page in pages[num_passed:]:
            self.pool.share(page)
        if self.cache is not None:
            self.cache.count_hits(pages)
        sequence.pages, sequence.num_passed = list(pages), num_passed
        sequence.unseen = [places.seen_from(num_tokens) for places in self.pool.windows]
        for places, first in zip(self.pool.windows, sequence.unseen, strict=True):
            places.look(pages[first:])
        sequence.is_reread = 0 < num_tokens == len(sequence.tokens)
        sequence.num_computed = num_tokens - sequence.is_reread
        sequence.num_remembered = num_tokens // self.pool.page_size
        for each in sequence.family if num_tokens % self.pool.page_size else ():
            each.shares_tail = True

    def take_cached(self, sequence: Sequence) -> None:
        """Shares the cached pages that come next, for a sequence that stands at a page's end."""
        size = self.pool.page_size
        is_at_end = sequence.num_computed == len(sequence.pages) * size
        if not is_at_end or sequence.num_pending < 2:
            return
        if pages := self.sharing.next_pages(sequence):
            for page in pages:
                self.pool.share(page)
            first = len(sequence.pages)
            sequence.pages += pages
            written = len(sequence.pages) * size
            for index, places in enumerate(self.pool.windows):
                self._look_on(sequence, index, places.seen_from(written), before=first)
                places.look(sequence.pages[max(first, sequence.unseen[index]) :])
            # what is expected follows from the last known token, which need not be computed again
            ends = len(sequence.tokens) + sequence.num_expected
            sequence.is_reread = written == ends
            sequence.num_computed = written - sequence.is_reread
            sequence.num_remembered = len(sequence.pages)

    def release_passed(self) -> None:
        """Lets go of pages that no token to come will look at: they have left the window.

        Whoever forks here computes the last token once more, and so looks one token further back.
        """
        for index, places in enumerate(self.pool.windows):
            for sequence in self.running:
                seen_from = places.seen_from(sequence.num_computed - 1)
                self._look_on(sequence, index, seen_from, before=len(sequence.pages))
        if self.window is None:
            return
        for sequence in self.running:
            passed = (sequence.num_computed - self.window - 1) // self.pool.page_size
            if passed > sequence.num_passed:
                self.pool.release(reversed(sequence.pages[sequence.num_passed : passed]))
                sequence.num_passed = passed

    def _look_on(self, sequence: Sequence, index: int, seen_from: int, before: int) -> None:
        """Layers of a window look from this page on now; it had been looking at those `before`."""
        unseen = sequence.unseen[index]
        if seen_from > unseen:
            left = sequence.pages[unseen : min(seen_from, before)]
            self.pool.windows[index].leave(left, self.pool.remembered)
            sequence.unseen[index] = seen_from

    def retreat(self, sequence: Sequence) -> None:
        """Takes an admission back, as if it had never been."""
        self._let_go(sequence)
        self.enqueue(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Sends a running sequence back to the waiting, without its pages."""
        sequence.num_preemptions += 1
        sequence.num_reached = max(sequence.num_reached, sequence.num_computed)
        self._remember_tail(sequence)
        self.retreat(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Takes a sequence out of the queues; what it had here is given up."""
        if sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
            self.waiting_set.remove(sequence)
            self.leave_host(sequence)
        else:
            self._remember_tail(sequence)
            # what it got is asked for after its end
            sequence.num_reached = max(sequence.num_reached, sequence.num_computed)
            self._let_go(sequence)

    def finish(self, sequence: Sequence, reason: str, stop_reason: int | str | None) -> None:
        self.leave(sequence)
        sequence.family.remove(sequence)
        sequence.status = Status.FINISHED
        sequence.finish_reason = reason
        sequence.stop_reason = stop_reason

    def _let_go(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        for places, first in zip(self.pool.windows, sequence.unseen, strict=True):
            places.leave(reversed(sequence.pages[first:]), self.pool.remembered)
        self.pool.release(reversed(sequence.held_pages))
        sequence.pages, sequence.num_passed, sequence.unseen = [], 0, []
        sequence.num_computed = 0
        sequence.is_reread = sequence.shares_tail = False

    def leave_host(self, sequence: Sequence) -> None:
        """Gives up what the host keeps of it."""
        if sequence.num_swapped:
            count = self.pool.pages_for(sequence.num_swapped)
            self.host.give_back(sequence, count - sequence.num_swapped_passed)

    def bring_back(self, sequence: Sequence) -> list[int]:
        """Takes new pages for what is on the host and was not found elsewhere."""
        if sequence.num_swapped_passed:  # places that nobody looks at; any page may stand there
            sequence.pages = [0] * sequence.num_swapped_passed
            sequence.num_passed = sequence.num_swapped_passed
            sequence.unseen = [sequence.num_passed] * len(self.pool.windows)
        first, count = len(sequence.pages), self.pool.pages_for(sequence.num_swapped)
        for index, places in enumerate(self.pool.windows):
            seen_from = places.seen_from(sequence.num_swapped)
            self._look_on(sequence, index, seen_from, before=first)
        unseen = [max(0, each - first) for each in sequence.unseen]
        pages = self.pool.allocate(count - first, unseen)
        self.sharing.num_there[sequence] = min(
            first * self.pool.page_size, self.sharing.num_there.get(sequence, sequence.num_swapped)
        )
        self.sharing.in_the_making.update(pages)
        sequence.pages = [*sequence.pages, *pages]
        sequence.is_reread = sequence.num_swapped == len(sequence.tokens)
        sequence.num_computed = sequence.num_swapped - sequence.is_reread
        return pages

    def _remember_tail(self, sequence: Sequence) -> None:
        """Enters the half full page of who leaves into the prefix cache."""
        size = self.pool.page_size
        full, rest = divmod(min(sequence.num_written, len(sequence.tokens)), size)
        if self.cache is None or not pays(rest, size) or self.pool.is_shared(sequence.pages[full]):
            return
        tokens = sequence.tokens[full * size : full * size + rest]
        extend_keys(sequence.page_keys, sequence.tokens, size, full * size, sequence.cache_root)
        parent = sequence.page_keys[full - 1] if full else sequence.cache_root
        self.cache.remember(
            sequence.pages[full], parent, chain_key(parent, tokens), tokens, depth=full
        )

    def admission_cost(self, sequence: Sequence, found: Found) -> int:
        """Pages that are free now and would not be once all of the sequence's tokens are in.

        A page that is found half full will be copied.
        """
        full = found.pages[found.num_passed : found.num_tokens // self.pool.page_size]
        in_use = sum(1 for page in full if self.pool.holders[page])
        comes_back = sequence.num_swapped > found.num_tokens
        passed = sequence.num_swapped_passed if comes_back else found.num_passed
        return self.pool.pages_for(len(sequence.tokens)) - passed - in_use

    def pages_to_come(self, sequence: Sequence) -> int:
        """Pages a running sequence still needs for the tokens it has."""
        upto = sequence.num_computed + sequence.num_pending
        more = self.pool.pages_for(upto) - len(sequence.pages)
        return max(0, more) + (self.page_to_copy(sequence) is not None)

    def page_to_copy(self, sequence: Sequence) -> int | None:
        """Which of its pages a sequence cannot write to, because others read it; if any."""
        if not sequence.shares_tail:
            return None
        place = sequence.num_written // self.pool.page_size
        is_there = place < len(sequence.pages)
        return place if is_there and self.pool.is_shared(sequence.pages[place]) else None

    def remember_full_pages(self, sequence: Sequence, upto: int) -> list[int]:
        """Enters pages that are full within the first `upto` tokens into the prefix cache.

        Returns those that are new there.  A token that is still expected has no key yet.
        """
        size = self.pool.page_size
        full = min(upto, len(sequence.tokens)) // size
        if self.cache is None or full <= sequence.num_remembered:
            return []
        pages, keys, tokens = sequence.pages, sequence.page_keys, sequence.tokens
        extend_keys(keys, tokens, size, full * size, sequence.cache_root)
        new = []
        for place in range(max(sequence.num_remembered, sequence.num_passed), full):
            parent = keys[place - 1] if place else sequence.cache_root
            inside = tokens[place * size : (place + 1) * size]
            if self.cache.remember(pages[place], parent, keys[place], inside, depth=place):
                new.append(pages[place])
        sequence.num_remembered = full
        return new

    def disown(self, page: int) -> None:
        """Takes a page out of the prefix cache that will not be written after all."""
        if self.cache is not None:
            self.cache.disown(page)
