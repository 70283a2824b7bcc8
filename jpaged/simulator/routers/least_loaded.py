"""To whoever has the least to do."""

from collections.abc import Sequence
from random import Random

from jpaged.errors import ConfigError
from jpaged.scheduling.request import Request
from jpaged.simulator.routing import ReplicaView, Router

MEASURES = {
    "requests": lambda replica: replica.num_requests,
    "tokens": lambda replica: replica.num_pending,
}


class LeastLoaded(Router):
    """To the replica with the fewest requests, or with the fewest tokens to compute; of equal ones
    to the first.

    choices: looks at so many replicas only, drawn anew each time: two do nearly as well as all,
    and cost no more where there are thousands.  Mitzenmacher, "The Power of Two Choices in
    Randomized Load Balancing", IEEE TPDS 2001.
    """

    def __init__(self, by: str = "requests", choices: int | None = None, seed: int = 0):
        if by not in MEASURES:
            raise ConfigError(f"load is measured by {' or '.join(MEASURES)}, not {by!r}")
        if choices is not None and choices < 1:
            raise ConfigError(f"choices must be at least 1, not {choices}; None looks at all")
        self.by, self.choices, self.random = by, choices, Random(seed)

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        indices = range(len(replicas))
        if self.choices is not None and self.choices < len(replicas):
            indices = self.random.sample(indices, self.choices)
        measure = MEASURES[self.by]
        return min(indices, key=lambda index: measure(replicas[index]))
