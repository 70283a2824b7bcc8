"""To whoever has room to grow, and away from whoever has not.

A replica's *freeness* is the number of steps for which its memory lasts: free pages, less what the
first who waits would take, for each sequence that runs there.  It may be below 0.

Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024.
"""

from collections.abc import Iterable, Sequence

from jpaged.errors import ConfigError
from jpaged.scheduling.request import Request
from jpaged.simulator.routers.round_robin import RoundRobin
from jpaged.simulator.routing import Move, ReplicaView, Router


def freeness(replica: ReplicaView) -> float:
    """Tokens that each sequence there can still say before pages run out."""
    queues, pool = replica.scheduler.queues, replica.scheduler.pool
    wanted = pool.pages_for(len(queues.waiting[0].tokens)) if queues.waiting else 0
    sharers = len(queues.running) + bool(queues.waiting) + replica.replica.num_coming
    return (pool.num_free - wanted) * pool.page_size / max(1, sharers)


class Freest(Router):
    """To the replica of highest freeness; of equal ones to that with the fewest requests."""

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        def rank(index: int) -> tuple[float, int]:
            return -freeness(replicas[index]), replicas[index].num_requests

        return min(range(len(replicas)), key=rank)


class Rebalancing(Router):
    """Live migration: from replicas whose freeness falls below `low` sequences go on at the freest,
    one at a time, if its freeness is above `high`; the shortest first, which costs least.

    Their pages are copied while they run, `token_seconds` for each token (`Roofline.
    token_seconds`); they keep still for a step or two only.  place: where requests go first.
    """

    def __init__(
        self,
        place: Router | None = None,
        token_seconds: float = 0.0,
        low: float = 64,
        high: float = 256,
    ):
        if not low < high or not token_seconds >= 0:
            raise ConfigError(
                f"low must be below high and token_seconds at least 0, not {low}, {high} and "
                f"{token_seconds}: or sequences go to and fro"
            )
        self.place = place or RoundRobin()
        self.token_seconds, self.low, self.high = token_seconds, low, high
        self.until: dict[int, float] = {}  # when the latest who left a replica has gone

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        return self.place.route(replicas, request)

    def moves(self, replicas: Sequence[ReplicaView], source: int) -> Iterable[Move]:
        here = replicas[source]
        queues = here.scheduler.queues
        if here.now < self.until.get(source, 0.0) or len(queues.running) < 2:
            return
        if freeness(here) >= self.low:
            return
        target = max(range(len(replicas)), key=lambda index: freeness(replicas[index]))
        if target == source or freeness(replicas[target]) <= self.high:
            return
        # not the eldest, who is safe here; nor who has not finished its prompt
        able = [s for s in queues.running[1:] if s.num_generated and len(s.family) == 1]
        if able:
            chosen = min(able, key=lambda sequence: sequence.num_computed)
            seconds = self.token_seconds * chosen.num_computed
            self.until[source] = here.now + seconds
            yield Move(chosen, target, seconds, is_live=True)
