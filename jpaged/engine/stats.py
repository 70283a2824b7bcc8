"""An engine in numbers: what a dashboard shows, or a test asserts."""

from dataclasses import dataclass

from jpaged.scheduling.counts import Counts
from jpaged.scheduling.scheduler import Scheduler


@dataclass(frozen=True)
class EngineStats:
    """Requests and pages now; prompt tokens looked up and found in the prefix cache, and
    `counts`, since the engine was made.

    num_swaps_refused: preemptions that wanted to swap and found no room on the host.
    """

    num_running: int
    num_waiting: int
    kv_cache_usage: float  # from 0 to 1
    prefix_cache_queries: int
    prefix_cache_hits: int
    num_swaps_refused: int
    counts: Counts

    @property
    def prefix_cache_hit_rate(self) -> float:
        """From 0 to 1."""
        return self.prefix_cache_hits / max(1, self.prefix_cache_queries)

    @classmethod
    def of(cls, scheduler: Scheduler) -> "EngineStats":
        cache = scheduler.cache
        return cls(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            kv_cache_usage=scheduler.pool.num_held / scheduler.pool.num_pages,
            prefix_cache_queries=cache.num_queried if cache else 0,
            prefix_cache_hits=cache.num_hits if cache else 0,
            num_swaps_refused=scheduler.queues.host.num_refused,
            counts=scheduler.counts.copy(),
        )
