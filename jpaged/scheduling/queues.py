"""Who waits, who runs, and what they hold: the moves of a sequence between the queues.

          admit                    finish
waiting ─────────► running ───────────────────► (gone)
   ▲                  │
   └──────────────────┘
      preempt, retreat
"""

from bisect import insort
from collections.abc import Iterator

from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.prefix import PrefixCache, extend_keys
from jpaged.scheduling.request import Sequence, Status


class Queues:
    """The waiting and the running, and the page pool they share.

    Invariants: a waiting sequence holds no page; `waiting` is sorted by arrival; `running` is in
    order of admission, so its first is the eldest.
    """

    def __init__(self, pool: PagePool, max_num_seqs: int, cache: PrefixCache | None):
        self.pool = pool
        self.cache = cache
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

    def admit(self, sequence: Sequence) -> None:
        """Moves a sequence from waiting to running, with the cached pages of its prefix."""
        self.waiting.remove(sequence)
        self.waiting_set.remove(sequence)
        sequence.status = Status.RUNNING
        self.running.append(sequence)
        self.take_cached(sequence)

    def take_cached(self, sequence: Sequence) -> None:
        """Shares the cached pages that come next, for a sequence that stands at a page's end."""
        is_at_end = sequence.num_computed == len(sequence.pages) * self.pool.page_size
        if not is_at_end or sequence.num_pending < 2:
            return
        for page in self.cached_pages(sequence):
            self.pool.share(page)
            sequence.pages.append(page)
        sequence.num_computed = len(sequence.pages) * self.pool.page_size
        sequence.num_remembered = len(sequence.pages)

    def retreat(self, sequence: Sequence) -> None:
        """Takes an admission back, as if it had never been."""
        self._let_go(sequence)
        self.enqueue(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Sends a running sequence back to the waiting, without its pages."""
        sequence.num_preemptions += 1
        self.retreat(sequence)

    def finish(self, sequence: Sequence, reason: str, stop_reason: int | str | None) -> None:
        if sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
            self.waiting_set.remove(sequence)
        else:
            self._let_go(sequence)
        sequence.status = Status.FINISHED
        sequence.finish_reason = reason
        sequence.stop_reason = stop_reason

    def _let_go(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.pool.release(reversed(sequence.pages))
        sequence.pages = []
        sequence.num_computed = 0

    def cached_pages(self, sequence: Sequence) -> list[int]:
        """The pages in the prefix cache which the sequence could use behind those it has.

        At least one token is left to compute: the next token needs its logits.  A request for
        prompt log-probabilities needs all of them.
        """
        if self.cache is None or sequence.request.params.prompt_logprobs is not None:
            return []
        size = self.pool.page_size
        extend_keys(sequence.page_keys, sequence.tokens, size, len(sequence.tokens))
        usable = (len(sequence.tokens) + sequence.num_expected - 1) // size
        return self.cache.match(sequence.page_keys[len(sequence.pages) : usable])

    def admission_cost(self, sequence: Sequence) -> int:
        """Pages that are free now and would not be once all of the sequence's tokens are in."""
        cached = self.cached_pages(sequence)
        in_use = sum(1 for page in cached if self.pool.holders[page])
        return self.pool.pages_for(len(sequence.tokens)) - in_use

    def pages_to_come(self, sequence: Sequence) -> int:
        """Pages a running sequence still needs for the tokens it has."""
        upto = sequence.num_computed + sequence.num_pending
        return max(0, self.pool.pages_for(upto) - len(sequence.pages))

    def remember_full_pages(self, sequence: Sequence, upto: int) -> list[int]:
        """Enters pages that are full within the first `upto` tokens into the prefix cache.

        Returns those that are new there.  A token that is still expected has no key yet.
        """
        size = self.pool.page_size
        full = min(upto, len(sequence.tokens)) // size
        if self.cache is None or full <= sequence.num_remembered:
            return []
        extend_keys(sequence.page_keys, sequence.tokens, size, full * size)
        places = range(sequence.num_remembered, full)
        sequence.num_remembered = full
        pages, keys = sequence.pages, sequence.page_keys
        return [pages[i] for i in places if self.cache.remember(pages[i], keys[i])]

    def disown(self, page: int) -> None:
        """Takes a page out of the prefix cache that will not be written after all."""
        if self.cache is not None:
            self.cache.disown(page)
