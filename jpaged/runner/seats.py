"""A place for every running sequence, where the host keeps what it would else lay out each step.

A page table changes by one entry every `page_size` steps.  Copying it from lists of Python
numbers at every step is the largest part of packing; here only what is new is copied.
"""

from dataclasses import dataclass

import numpy as np

from jpaged.scheduling.request import Sequence, Status


@dataclass(slots=True)
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

    def of(self, sequences: list[Sequence]) -> tuple[list[int], list[Sequence]]:
        """Their seats, with page tables up to date, and those who have just sat down."""
        known, indices, new = self._seats, [], []
        for sequence in sequences:
            seat, pages = known.get(sequence), sequence.pages
            if seat is None:
                seat = known[sequence] = Seat(self._take_free(), pages)
                new.append(sequence)
            if seat.num_copied != len(pages) or seat.pages is not pages:
                self._copy_pages(seat, pages)
            indices.append(seat.index)
        return indices, new

    def _copy_pages(self, seat: Seat, pages: list[int]) -> None:
        if seat.pages is not pages:
            seat.pages, seat.num_copied = pages, 0
        self.tables[seat.index, seat.num_copied : len(pages)] = pages[seat.num_copied :]
        seat.num_copied = len(pages)

    def index(self, sequence: Sequence) -> int:
        return self._seats[sequence].index

    def _take_free(self) -> int:
        if not self._free:
            gone = [s for s in self._seats if s.status is not Status.RUNNING]
            self._free = [self._seats.pop(sequence).index for sequence in gone]
        return self._free.pop()
