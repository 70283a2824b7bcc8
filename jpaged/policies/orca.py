"""Orca's memory under our scheduler: nobody starts before all it may ever hold is set aside.

It is what paging is compared with: the same steps, kernels and order, and no other difference than
how many requests the same cache lets run at once.
"""

from collections.abc import Callable, Iterable
from typing import Self

from jpaged.policies.buddy import Buddy, rounded
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View

Reservation = Callable[[Sequence], int]  # slots of one sequence


def whole(sequence: Sequence) -> int:
    """All slots that a sequence may fill: the last of its `max_tokens` is never computed."""
    return sequence.full_length - 1


def exact(sequence: Sequence) -> int:
    """The slots that it will fill, if `predicted_tokens` of its terms are what it will say."""
    return sequence.num_prompt + num_foreseen(sequence) - 1


def doubling(sequence: Sequence) -> int:
    """Room for an answer of up to twice the length, a power of two."""
    return sequence.num_prompt + rounded(num_foreseen(sequence))


def num_foreseen(sequence: Sequence) -> int:
    """Tokens it is predicted to say; all it may, if nobody predicts."""
    predicted = sequence.request.terms.predicted_tokens
    most = sequence.request.max_tokens
    return most if predicted is None else min(max(1, round(predicted)), most)


class Orca(Fcfs):
    """First come, first served, each only when there is a contiguous piece for its whole length.

    Pieces come from a buddy allocator over the pool's slots, a page at least.  Each sample and each
    beam has a piece of its own, and a request starts with all of them: what the pages under it
    share makes room for nobody.  Kwon et al., "Efficient Memory Management for Large Language Model
    Serving with PagedAttention", SOSP 2023, section 6.1, rebuilt so the memory of Yu et al.,
    "Orca", OSDI 2022, with three reservations: `Orca.max()`, the default, which knows only how far
    a request may go; and `Orca.pow2()` and `Orca.oracle()`, which are told how far it will
    (`predicted_tokens`).  Switch prefix caching off for their Orca.

    beam_width: the beams of each search.  Where the page size is a power of two nobody is evicted;
    the exception is a request that no piece can hold, which the scheduler lets in alone.
    """

    def __init__(self, reservation: Reservation = whole, beam_width: int = 1):
        self.reservation = reservation
        self.beam_width = beam_width
        self.buddy: Buddy | None = None  # until the first step shows how large the pool is
        self.pieces: dict[str, list[int]] = {}  # where those of a request start
        self.num_asked: dict[str, int] = {}  # slots that a request asked for, all its pieces

    @classmethod
    def max(cls, beam_width: int = 1) -> Self:
        """Reserves all that a request may fill.  Where `max_tokens` is what it will say, that is
        the oracle's."""
        return cls(whole, beam_width)

    @classmethod
    def pow2(cls, beam_width: int = 1) -> Self:
        """Reserves for the answer at most twice its length."""
        return cls(doubling, beam_width)

    @classmethod
    def oracle(cls, beam_width: int = 1) -> Self:
        """Reserves what a request will fill."""
        return cls(exact, beam_width)

    def propose(self, view: View) -> Iterable[Wish]:
        self._let_go({sequence.request.id for sequence in view.running})
        yield from ((sequence, sequence.num_pending) for sequence in view.running)
        for sequence in view.waiting[: view.free_seats]:
            if sequence.request.id not in self.pieces and not self._reserve(sequence, view):
                return
            yield sequence, sequence.num_pending

    @property
    def num_given(self) -> int:
        """Slots in pieces that are taken: what was asked for, rounded up."""
        return sum(self.buddy.given.values()) if self.buddy else 0

    def _reserve(self, sequence: Sequence, view: View) -> bool:
        """Sets pieces aside for a request, for all its sequences or for none."""
        buddy = self.buddy = self.buddy or Buddy(num_slots(view))
        count = self.beam_width if sequence.is_steered else sequence.request.params.num_samples
        asked = max(self.reservation(sequence), view.page_size)
        found = [buddy.give(asked) for _ in range(count)]
        pieces = [start for start in found if start is not None]
        if len(pieces) < count:
            for start in pieces:
                buddy.take_back(start)
            return False
        self.pieces[sequence.request.id] = pieces
        self.num_asked[sequence.request.id] = count * asked
        return True

    def _let_go(self, running: set[str]) -> None:
        """Frees the pieces of requests that no longer run."""
        for request_id in self.pieces.keys() - running:
            assert self.buddy is not None
            for start in self.pieces.pop(request_id):
                self.buddy.take_back(start)
            del self.num_asked[request_id]


def num_slots(view: View) -> int:
    """Token slots of the whole pool."""
    held = {page for sequence in view.running for page in sequence.pages}
    return view.page_size * (view.free_pages + len(held))
