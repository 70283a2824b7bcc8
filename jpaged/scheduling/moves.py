"""The pages that move before a step: out to the host, copied within the cache, back in.

They are named here when they are decided upon: later in the same plan a page that was given up may
be somebody else's, in another place.
"""

from collections.abc import Iterable

from jpaged.scheduling.batch import PlacedMoves
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.request import Sequence

Numbers = tuple[int, ...]  # of a page: its own, and its place for each narrower window


class Moves:
    """What is to move, in the order of a `ScheduledBatch`."""

    def __init__(self, pool: PagePool):
        self.pool = pool
        self._outs: dict[Sequence, list[Numbers]] = {}
        self._copies: dict[Sequence, tuple[Numbers, Numbers]] = {}
        self._ins: dict[Sequence, tuple[int, list[Numbers]]] = {}

    def send_out(self, sequence: Sequence, pages: Iterable[int]) -> None:
        self._outs[sequence] = [self.pool.numbers(page) for page in pages]

    def copy(self, sequence: Sequence, source: Numbers, target: int) -> None:
        """To the target, the sequence's own page."""
        self._copies[sequence] = source, self.pool.numbers(target)

    def bring_in(self, sequence: Sequence, first: int, pages: Iterable[int]) -> None:
        """From the first-th page that the host keeps on; without pages it forgets them."""
        self._ins[sequence] = first, [self.pool.numbers(page) for page in pages]

    def copies_for(self, sequence: Sequence) -> bool:
        return sequence in self._copies

    def comes_in(self, sequence: Sequence) -> bool:
        return sequence in self._ins

    def take_back(self, sequence: Sequence) -> None:
        """The sequence will not run: nothing is copied for it, and the host keeps what it has."""
        self._copies.pop(sequence, None)
        self._ins.pop(sequence, None)

    @property
    def returning(self) -> list[Sequence]:
        """Those whose pages leave the host."""
        return list(self._ins)

    def outs(self, kind: int = 0) -> tuple[tuple[Sequence, Numbers], ...]:
        """kind: 0 for pages, from 1 on for the places of a window."""
        return tuple((each, _column(rows, kind)) for each, rows in self._outs.items())

    def copies(self, kind: int = 0) -> tuple[tuple[int, int], ...]:
        return tuple((source[kind], target[kind]) for source, target in self._copies.values())

    def ins(self, kind: int = 0) -> tuple[tuple[Sequence, int, Numbers], ...]:
        ins = self._ins.items()
        return tuple((each, first, _column(rows, kind)) for each, (first, rows) in ins)

    def placed(self) -> tuple[PlacedMoves, ...]:
        """The same moves in places."""
        return tuple(
            PlacedMoves(places.of, self.outs(kind), self.copies(kind), self.ins(kind))
            for kind, places in enumerate(self.pool.windows, start=1)
        )


def _column(rows: list[Numbers], kind: int) -> Numbers:
    return tuple(numbers[kind] for numbers in rows)
