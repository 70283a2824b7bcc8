"""A place for every running sequence, where the host keeps what it would else lay out each step.

A page table changes by one entry every `page_size` steps.  Copying it from lists of Python
numbers at every step is the largest part of packing; here only what is new is copied.
"""

from dataclasses import dataclass

import numpy as np

from jpaged.scheduling.request import Sequence, Status


@dataclass
class Seat:
    index: int
    pages: list[int]  # the sequence's own list, to see whether it became another one
    num_copied: int = 0


class Seats:
    """Seats are taken when a sequence is first seen, and cleared when there are none left.

    tables: i32[num_seats + 1, N]; the last row is empty, for padding.
    """

    def __init__(self, num_seats: int, pages_per_sequence: int):
        self.num_seats = num_seats
        self.tables = np.zeros((num_seats + 1, pages_per_sequence), np.int32)
        self._seats: dict[Sequence, Seat] = {}
        self._free = list(range(num_seats))

    def of(self, sequence: Sequence) -> tuple[int, bool]:
        """(a sequence's seat, whether it is new), with its page table up to date."""
        seat = self._seats.get(sequence)
        is_new = seat is None
        if seat is None:
            seat = self._seats[sequence] = Seat(self._take_free(), sequence.pages)
        pages = sequence.pages
        if seat.pages is not pages:
            seat.pages, seat.num_copied = pages, 0
        if len(pages) != seat.num_copied:
            self.tables[seat.index, seat.num_copied : len(pages)] = pages[seat.num_copied :]
            seat.num_copied = len(pages)
        return seat.index, is_new

    def _take_free(self) -> int:
        if not self._free:
            gone = [s for s in self._seats if s.status is not Status.RUNNING]
            self._free = [self._seats.pop(sequence).index for sequence in gone]
        return self._free.pop()
