"""Which replica a request goes to, and where it goes on.  A router looks at the replicas, and
changes nothing there.

    arrival ──► route ──► replica ──step──► moves ──► another replica, after a while
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from jpaged.scheduling.prefix import extend_keys
from jpaged.scheduling.request import Request
from jpaged.scheduling.request import Sequence as Stream
from jpaged.scheduling.scheduler import Scheduler
from jpaged.scheduling.view import View
from jpaged.simulator.replica import Replica


class Move(NamedTuple):
    """A sequence is to go on elsewhere, when its pages have been copied for so many `seconds`.

    Until then it keeps still, and its pages; and longer, if there is no room yet.  is_live: it runs
    meanwhile and keeps still for the last step only; where there is no room then, it stays.
    """

    sequence: Stream
    target: int
    seconds: float = 0.0
    is_live: bool = False


class PageKeys:
    """The keys of a prompt's full pages, made once for all replicas that are asked for them."""

    def __init__(self):
        self._request: Request | None = None
        self._keys: list[bytes] = []

    def of(self, request: Request, page_size: int) -> list[bytes]:
        if request is not self._request:
            probe = Stream(request)
            extend_keys(
                probe.page_keys, probe.tokens, page_size, len(probe.tokens), probe.cache_root
            )
            self._request, self._keys = request, probe.page_keys
        return self._keys


@dataclass(frozen=True)
class ReplicaView:
    """A replica, as it is after the latest step it has begun."""

    index: int
    replica: Replica
    now: float
    keys: PageKeys = field(default_factory=PageKeys)

    @property
    def scheduler(self) -> Scheduler:
        return self.replica.scheduler

    @cached_property
    def view(self) -> View:
        """What its policy sees."""
        return self.scheduler.view(self.now)

    @property
    def num_requests(self) -> int:
        """Sequences that run or wait there, or are on their way to it."""
        queues = self.scheduler.queues
        return len(queues.running) + len(queues.waiting) + self.replica.num_coming

    @property
    def num_pending(self) -> int:
        """Tokens that are to be computed there before anybody who comes now."""
        return sum([sequence.num_pending for sequence in self.scheduler.queues])

    def num_cached(self, request: Request) -> int:
        """Tokens of the request's prompt in pages that are in the cache there, full ones.  Asking
        changes nothing, and the prompt is hashed once, however many are asked."""
        cache, size = self.scheduler.cache, self.scheduler.pool.page_size
        return 0 if cache is None else size * len(cache.match(self.keys.of(request, size)))


class ReplicaViews(Sequence[ReplicaView]):
    """All replicas at one time; what is not looked at costs nothing."""

    def __init__(self, replicas: Sequence[Replica], now: float):
        self._replicas, self._now, self._keys = replicas, now, PageKeys()

    def __len__(self) -> int:
        return len(self._replicas)

    def __getitem__(self, index: int) -> ReplicaView:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ReplicaView(index, self._replicas[index], self._now, self._keys)

    def __iter__(self) -> Iterator[ReplicaView]:
        return map(self.__getitem__, range(len(self)))


class Router:
    """Decides where a request goes.  Only `route` has to be written.

    It may keep state; a simulation begins with a copy of it.
    """

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        """The index of the replica that gets it."""
        raise NotImplementedError(f"{type(self).__name__} does not say where to go")

    def moves(self, replicas: Sequence[ReplicaView], source: int) -> Iterable[Move]:
        """After each step of a replica: which of its sequences are to go on elsewhere.  Those with
        relatives there stay, and those on their way already are not asked twice."""
        return ()
