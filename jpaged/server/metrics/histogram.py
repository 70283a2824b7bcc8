"""A histogram that takes many equal values at once; Prometheus's own takes them one by one."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Values counted by the first bound that is not below them.  One thread at a time."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]):
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)  # the last: over all bounds
        self.sum = 0.0

    def add(self, value: float, count: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def num_values(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(bound, how many values are not above it), as Prometheus wants it."""
        found, total = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            name = "+Inf" if bound == float("inf") else str(float(bound))
            found.append((name, float(total)))
        return found
