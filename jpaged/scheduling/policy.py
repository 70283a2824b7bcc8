"""What a scheduling policy may say.

A policy *proposes*, the scheduler *disposes*: it clamps every wish to what is pending, to the
token budget, the seats and the pages.  A policy can be slow or unfair, never wrong.  It may rely
on two rules that are the scheduler's own, because without them some policies never finish:

1. the eldest running sequence gets at least one token a step and is never evicted for another;
2. nobody is admitted in a step that evicted someone.

Nor is anybody admitted after a wish for a waiting sequence that did not fit: what a policy puts
first is not overtaken, for ever, by smaller ones.

    a request arrives     refuse ─► on_arrival
    a step is made        preempt ─► propose ─► victim, wants_swap … where pages run out ─► on_step
    nobody runs           propose ─► nothing ─► wake_at
    a page is needed      evict_rank, of those that nobody holds
    a sequence ends       on_finish
"""

from collections.abc import Iterable

from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.prefix import CachedPage
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.view import View

Wish = tuple[Sequence, int]  # run at most so many pending tokens of this sequence


class Policy:
    """Decides who runs and who gives way.  Only `propose` has to be written.

    Whoever is left out of the proposal waits: a running one keeps its pages meanwhile.  Policies
    may keep state, of plain data, so that a snapshot can hold it; the sequences are the
    scheduler's, to be read only: who writes to them ends the engine, with `PolicyWrote`.
    """

    def propose(self, view: View) -> Iterable[Wish]:
        """Yields (sequence, most tokens) in order of preference.  Later wishes may be dropped."""
        raise NotImplementedError(f"{type(self).__name__} does not say who should run")

    def victim(self, view: View) -> Sequence:
        """Names the running sequence whose pages are taken when there are none left: who arrived
        last, unless a policy knows better."""
        # not the last admitted: that may be a fork, a beam of the very first request, and all its
        # relatives would keep their pages and wait for it
        return max(reversed(view.running), key=lambda sequence: sequence.serial)

    def wants_swap(self, view: View, victim: Sequence) -> bool | None:
        """Whether a victim's pages go to the host, if there is room, or are computed anew later.
        None leaves it to the engine's `preemption_mode`."""
        return None

    def preempt(self, view: View) -> Iterable[Sequence]:
        """Running sequences that give up their pages now, though nobody ran out of them."""
        return ()

    def refuse(self, view: View, request: Request) -> str | None:
        """Why a request that has just arrived will not be served, or None to queue it."""
        return None

    def wake_at(self, view: View) -> float | None:
        """Asked when nobody runs and nobody was proposed: the time to ask again, if nothing
        arrives before.  None is now: then the first who waits is let in."""
        return None

    def evict_rank(self, page: CachedPage) -> float:
        """Of the cached pages nobody holds, the one of lowest rank gives way first; of equal ones
        the least recently used."""
        return 0.0

    def on_arrival(self, sequence: Sequence, now: float) -> None:
        """A sequence was queued."""

    def on_step(self, batch: ScheduledBatch, now: float) -> None:
        """A step has answered: its sequences have their new tokens."""

    def on_finish(self, sequence: Sequence, now: float) -> None:
        """A sequence has ended, was aborted, or went elsewhere."""


class Fcfs(Policy):
    """First come, first served: running sequences before new ones; who came last gives way.

    Whoever's prompt fits now is let in; what the answers will need is nobody's yet, so under a long
    queue those who came last are evicted and computed anew, some more than once.  It fills a step
    best where that is nearly free; where it is not, see `Headroom`.

    The default, the ancestor of other policies, and what the scheduler falls back on.
    Kwon et al., "Efficient Memory Management for Large Language Model Serving with
    PagedAttention", SOSP 2023, section 4.5.
    """

    def propose(self, view: View) -> Iterable[Wish]:
        for sequence in (*view.running, *view.waiting):
            yield sequence, sequence.num_pending
