"""Which replica a request goes to.  A router sees the replicas' schedulers, and changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from jpaged.scheduling.request import Request
from jpaged.scheduling.scheduler import Scheduler
from jpaged.scheduling.view import View


@dataclass(frozen=True)
class ReplicaView:
    """A replica, as it is after the latest step it has begun."""

    index: int
    scheduler: Scheduler
    now: float

    @cached_property
    def view(self) -> View:
        """What its policy sees."""
        return self.scheduler.view(self.now)

    @property
    def num_requests(self) -> int:
        """Sequences that run or wait there."""
        return len(self.scheduler.queues.running) + len(self.scheduler.queues.waiting)

    def num_cached(self, request: Request) -> int:
        """Tokens of the request's prompt that need not be computed there.  Asking changes
        nothing."""
        return self.view.num_cached_of(request)


class ReplicaViews(Sequence[ReplicaView]):
    """All replicas at one time; what is not looked at costs nothing."""

    def __init__(self, schedulers: Sequence[Scheduler], now: float):
        self._schedulers, self._now = schedulers, now

    def __len__(self) -> int:
        return len(self._schedulers)

    def __getitem__(self, index: int) -> ReplicaView:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ReplicaView(index, self._schedulers[index], self._now)

    def __iter__(self) -> Iterator[ReplicaView]:
        return map(self.__getitem__, range(len(self)))


class Router:
    """Decides where a request goes."""

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        """The index of the replica that gets it."""
        raise NotImplementedError(f"{type(self).__name__} does not say where to go")


class RoundRobin(Router):
    """Each replica in its turn."""

    def __init__(self):
        self.latest = -1

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        self.latest = (self.latest + 1) % len(replicas)
        return self.latest
