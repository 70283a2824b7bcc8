"""What a scheduling policy sees and says.

A policy *proposes*, the scheduler *disposes*: it clamps every wish to what is pending, to the
token budget, the seats and the pages.  A policy can be slow or unfair, never wrong.  It may rely
on two rules that are the scheduler's own, because without them some policies never finish:

1. the eldest running sequence gets at least one token a step and is never evicted for another;
2. nobody is admitted in a step that evicted someone.

Nor is anybody admitted after a wish for a waiting sequence that did not fit: what a policy puts
first is not overtaken, for ever, by smaller ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from jpaged.scheduling.request import Sequence

Wish = tuple[Sequence, int]  # run at most so many pending tokens of this sequence


@dataclass(frozen=True)
class View:
    """What a policy sees: a moment of the scheduler.

    running: in order of admission.  waiting: in order of arrival.  The sequences are the
    scheduler's own; read them, do not write to them.
    """

    now: float
    running: tuple[Sequence, ...]
    waiting: tuple[Sequence, ...]
    token_budget: int
    free_seats: int
    free_pages: int
    page_size: int


class Policy(Protocol):
    """Decides who runs and who gives way.

    It may say more, if it likes.  `wants_swap(view, victim) -> bool`: whether a victim's pages go
    to the host, or are computed anew later; the engine's `preemption_mode` decides otherwise.
    `evict_rank(page: CachedPage) -> float`: of the cached pages nobody holds, the one of lowest
    rank gives way first; the least recently used one otherwise.
    """

    def propose(self, view: View) -> Iterable[Wish]:
        """Yields (sequence, most tokens) in order of preference.  Later wishes may be dropped."""
        ...

    def victim(self, view: View) -> Sequence:
        """Names the running sequence whose pages are taken when there are none left."""
        ...


class Fcfs:
    """First come, first served: running sequences before new ones; who came last gives way.

    The default, the ancestor of other policies, and what the scheduler falls back on.
    Kwon et al., "Efficient Memory Management for Large Language Model Serving with
    PagedAttention", SOSP 2023, section 4.5.
    """

    def propose(self, view: View) -> Iterable[Wish]:
        for sequence in (*view.running, *view.waiting):
            yield sequence, sequence.num_pending

    def victim(self, view: View) -> Sequence:
        # not the last admitted: that may be a fork, a beam of the very first request, and all its
        # relatives would keep their pages and wait for it
        return max(reversed(view.running), key=lambda sequence: sequence.serial)
