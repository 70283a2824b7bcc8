"""An engine in numbers: what a dashboard shows, or a test asserts."""

from dataclasses import dataclass, field, replace

from jpaged.scheduling.counts import Counts
from jpaged.scheduling.loop import Seconds, ServingLoop


@dataclass(frozen=True)
class EngineStats:
    """Requests and pages now; prompt tokens looked up and found in the prefix cache, and
    `counts`, since the engine was made.

    num_swaps_refused: preemptions that wanted to swap and found no room on the host.  num_swapped:
    of the waiting, those whose pages are on the host.  num_compiled: programs that were compiled,
    those before the first request, too.  num_compiled_late: how often requests had to wait for it.
    seconds: the host's, since the engine was made or restored; policy_seconds: those of them that
    the policy took to answer what it was asked.
    """

    num_running: int
    num_waiting: int
    kv_cache_usage: float  # from 0 to 1
    prefix_cache_queries: int
    prefix_cache_hits: int
    num_swaps_refused: int
    counts: Counts
    num_swapped: int = 0
    host_cache_usage: float = 0.0  # from 0 to 1
    num_compiled: int = 0
    num_compiled_late: int = 0
    seconds: Seconds = field(default_factory=Seconds)
    policy_seconds: float = 0.0

    @property
    def prefix_cache_hit_rate(self) -> float:
        """From 0 to 1."""
        return self.prefix_cache_hits / max(1, self.prefix_cache_queries)

    @classmethod
    def of(cls, loop: ServingLoop, num_compiled: int = 0, num_late: int = 0) -> "EngineStats":
        scheduler = loop.scheduler
        cache, queues, host = scheduler.cache, scheduler.queues, scheduler.queues.host
        return cls(
            num_running=len(queues.running),
            num_waiting=len(queues.waiting),
            kv_cache_usage=scheduler.pool.num_held / scheduler.pool.num_pages,
            prefix_cache_queries=cache.num_queried if cache else 0,
            prefix_cache_hits=cache.num_hits if cache else 0,
            num_swaps_refused=host.num_refused,
            counts=scheduler.counts.copy(),
            # a thousand may wait, and nobody was swapped: do not look at each
            num_swapped=sum(s.num_swapped > 0 for s in queues.waiting) if host.num_used else 0,
            host_cache_usage=host.num_used / host.num_pages if host.num_pages else 0.0,
            num_compiled=num_compiled,
            num_compiled_late=num_late,
            seconds=replace(loop.seconds),
            policy_seconds=scheduler.counsel.seconds,
        )
