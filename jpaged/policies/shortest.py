"""Shortest prompts first."""

from collections.abc import Iterable

from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class ShortestFirst(Fcfs):
    """Decodes everyone, then the shortest prompts; a second of waiting counts as `aging` tokens.

    Without ageing (0) a stream of short prompts starves a long one.
    """

    def __init__(self, aging: float = 200.0, chunk: int = 512):
        self.aging = aging
        self.chunk = chunk

    def cost(self, sequence: Sequence, now: float) -> float:
        return sequence.num_pending - self.aging * (now - sequence.arrival)

    def propose(self, view: View) -> Iterable[Wish]:
        yield from ((s, 1) for s in view.running if s.num_pending == 1)
        everyone = (*view.running, *view.waiting)
        for sequence in sorted(everyone, key=lambda s: self.cost(s, view.now)):
            yield sequence, self.chunk
