"""Nobody is let in on the pages that the running ones are about to need."""

from collections.abc import Iterable

from jpaged.errors import ConfigError
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.view import View


class Headroom(Fcfs):
    """First come, first served, while `pages` are left for each sequence to grow into.

    Without it whoever fits now is let in, and under a long queue of short prompts the pool is full
    of sequences that evict each other at the next page's end.  What is computed twice then can cost
    more than the larger batch gains.

    Each has its room when the last of them is let in, and then all grow on: nobody is evicted only
    where no answer is longer than so many pages.  With pages of 16 tokens and answers of 64, four
    are enough; one halves what is evicted, and keeps most of the batch.
    """

    def __init__(self, pages: int = 1):
        if pages < 0:
            raise ConfigError(f"pages must be at least 0, not {pages}; 0 leaves no headroom")
        self.pages = pages

    def propose(self, view: View) -> Iterable[Wish]:
        yield from ((sequence, sequence.num_pending) for sequence in view.running)
        left = view.free_pages - self.pages * len(view.running)
        is_alone = not view.running
        for sequence in view.waiting:
            left -= -(-sequence.num_pending // view.page_size) + self.pages
            if left < 0 and not is_alone:
                return
            is_alone = False
            yield sequence, sequence.num_pending
