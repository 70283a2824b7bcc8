"""A buddy allocator over token slots: what Kwon et al. assume of Orca (SOSP 2023, section 6.1).

Every piece is a power of two long and lies at a multiple of its length, so the two halves of a
piece, its *buddies*, find each other by one bit of their addresses.

    give 200 of 1024       [ 256 given |  256   |       512       ]
    take it back           [                1024                  ]
"""


class Buddy:
    """Gives and takes contiguous pieces of `num_slots` slots.

    Invariant: a slot is in exactly one piece, free or given, and no two free pieces are buddies.
    A number of slots that is no power of two begins as several pieces, from large to small.
    """

    def __init__(self, num_slots: int):
        self.num_slots = num_slots
        self.free: dict[int, set[int]] = {1 << bit: set() for bit in range(num_slots.bit_length())}
        self.given: dict[int, int] = {}  # start: length
        start = 0
        for length in reversed(self.free):
            if num_slots & length:
                self.free[length].add(start)
                start += length

    @property
    def num_free(self) -> int:
        return sum(length * len(starts) for length, starts in self.free.items())

    def give(self, count: int) -> int | None:
        """The start of a piece of at least `count` slots; None if no piece is long enough."""
        wanted = rounded(count)
        fitting = [length for length, starts in self.free.items() if starts and length >= wanted]
        if not fitting:
            return None
        length = min(fitting)
        start = min(self.free[length])
        self.free[length].remove(start)
        while length > wanted:
            length //= 2
            self.free[length].add(start + length)
        self.given[start] = length
        return start

    def take_back(self, start: int) -> None:
        """Frees a piece and joins it with its buddy, and their union with its own, as far as it
        goes.  Raises `KeyError` if no piece was given there."""
        length = self.given.pop(start)
        while start ^ length in self.free[length]:
            self.free[length].remove(start ^ length)
            start &= ~length
            length *= 2
        self.free[length].add(start)


def rounded(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << (count - 1).bit_length()
