"""Room on the host for the pages of those who were preempted: swapping.

The device's pool hands out pages by number; here they are only counted, because whoever swaps
out leaves with all its pages and comes back with all of them.
"""

from jpaged.scheduling.request import Sequence


class HostRoom:
    """How many pages the host still takes.  `num_refused` counts those who did not fit."""

    def __init__(self, num_pages: int):
        self.num_pages = num_pages
        self.num_used = 0
        self.num_refused = 0

    def take(self, sequence: Sequence, num_tokens: int, num_pages: int) -> bool:
        """Makes room for the pages of a sequence's first tokens; False if there is none."""
        assert not sequence.num_swapped, f"{sequence} has pages there already"
        if num_pages > self.num_pages - self.num_used:
            self.num_refused += 1
            return False
        self.num_used += num_pages
        sequence.num_swapped, sequence.num_swapped_passed = num_tokens, sequence.num_passed
        return True

    def give_back(self, sequence: Sequence, num_pages: int) -> None:
        """The sequence's pages are not needed there any more."""
        self.num_used -= num_pages
        sequence.num_swapped = sequence.num_swapped_passed = 0
