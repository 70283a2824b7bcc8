"""Replicas under one router, in one virtual time.

Two heaps: what happens when (arrivals, pages that have been copied …), and the replicas with work,
by the time up to which they have run.  Whatever is first is next, so nobody decides without having
heard of all that happened before.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from math import inf

from jpaged.errors import PolicyWrote
from jpaged.scheduling.audit import accusation
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.request import Sequence
from jpaged.simulator.replica import Replica
from jpaged.simulator.routing import Move, ReplicaViews, Router
from jpaged.simulator.transfers import Transfer, Transfers
from jpaged.simulator.workload.request import TimedRequest

OnStep = Callable[[StepRecord, int], None]
OnRequest = Callable[[RequestRecord, int], None]


class Cluster:
    """Serves a workload on replicas, which `build(fate, on_step, on_finish)` makes."""

    def __init__(
        self,
        build: Callable[..., Replica],
        num_replicas: int,
        router: Router,
        context: int,
        on_step: OnStep,
        on_request: OnRequest,
        keep_token_times: bool = True,
    ):
        self.router, self.context = router, context
        self.on_request, self.keep_token_times = on_request, keep_token_times
        self.refused: list[tuple[str, str]] = []
        self.replicas = [
            build(
                self._fate,
                on_step=lambda record, index=index: on_step(record, index),
                on_finish=lambda sequence, index=index: self._on_finish(sequence, index),
            )
            for index in range(num_replicas)
        ]
        self.transfers = Transfers(self.replicas)
        self._has_moves = type(router).moves is not Router.moves
        self._serial = count()  # among equal times, what was entered first
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._busy: list[tuple[float, int]] = []  # (time, replica)
        self._is_busy = [False] * num_replicas
        self._underway: dict[str, TimedRequest] = {}
        self._num_left: dict[str, int] = {}  # sequences of a request that have not ended

    def serve(self, workload: Iterable[TimedRequest]) -> None:
        """To its end."""
        self._await_next(iter(workload), -inf)
        events, busy = self._events, self._busy
        while events or busy or self._give_up():
            if not busy or (events and events[0][0] <= busy[0][0]):
                time, _, happen = heapq.heappop(events)
                happen(time)
            else:
                self._step(heapq.heappop(busy)[1])
        self._check_ends()

    def _check_ends(self) -> None:
        """Raises `PolicyWrote` if pages are left over, or somebody who cannot go on."""
        left = ", ".join(islice(self._underway, 5))
        what = f"requests {left} have not ended, and nobody can go on with them" if left else ""
        schedulers = [replica.scheduler for replica in self.replicas]
        said = [accusation(each.counsel.suspect, each.queues) for each in schedulers]
        said.append(accusation(schedulers[0].counsel.suspect, schedulers[0].queues, what))
        if accusations := list(filter(None, said)):
            raise PolicyWrote(accusations[0])

    def _at(self, time: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._serial), happen))

    def _await_next(self, arrivals: Iterator[TimedRequest], latest: float) -> None:
        """The workload's next request; only one is held at a time."""
        for each in arrivals:
            if each.arrival < latest:
                raise ValueError(
                    f"request {each.name} arrives at {each.arrival}, after one of {latest}; "
                    "sort the workload by arrival"
                )
            self._at(each.arrival, partial(self._arrive, each, arrivals))
            return

    def _arrive(self, timed: TimedRequest, arrivals: Iterator[TimedRequest], now: float) -> None:
        self._await_next(arrivals, now)
        self._admit(timed, (), now)

    def _admit(self, timed: TimedRequest, before: tuple[int, ...], now: float) -> None:
        """Sends a request, or a session's next turn, to a replica."""
        request = timed.as_request(self.context, before, now)
        if timed.name in self._underway:
            raise ValueError(f"two requests named {timed.name} are there at {now}; rename one")
        index = 0
        if len(self.replicas) > 1:
            index = self.router.route(ReplicaViews(self.replicas, now), request)
            if not 0 <= index < len(self.replicas):
                raise ValueError(
                    f"the router {type(self.router).__name__} sends request {timed.name} to replica"
                    f" {index}; there are {len(self.replicas)}, the first is 0"
                )
        self._underway[timed.name] = timed
        refused = self.replicas[index].add(request)
        if refused is not None:
            self.refused.append((timed.name, refused))
            del self._underway[timed.name]
        self._wake(index, now)

    def _wake(self, index: int, now: float) -> None:
        replica = self.replicas[index]
        if replica.has_work and not self._is_busy[index]:
            replica.clock.wait_until(now)
            self._push(index)

    def _push(self, index: int) -> None:
        self._is_busy[index] = True
        heapq.heappush(self._busy, (self.replicas[index].clock.now, index))

    def _step(self, index: int) -> None:
        replica = self.replicas[index]
        self._is_busy[index] = False
        if replica.run_step():
            if replica.has_work:
                self._push(index)
            if self._has_moves:
                self._at(replica.clock.now, partial(self._look_around, index))
        elif replica.wake_at is not None:
            self._at(replica.wake_at, partial(self._wake, index))

    def _look_around(self, index: int, now: float) -> None:
        """After a step: who sets out from there, and who has room now."""
        for wish in self.router.moves(ReplicaViews(self.replicas, now), index):
            self._set_out(wish, index, now)
        for transfer in self.transfers.retry(index):
            self._wake_both(transfer, now)

    def _set_out(self, wish: Move, source: int, now: float) -> None:
        transfer = self.transfers.begin(wish, source)
        if transfer is not None:
            self._at(now + wish.seconds, partial(self._finish_copying, transfer))

    def _finish_copying(self, transfer: Transfer, now: float) -> None:
        if self.transfers.finish_copying(transfer):
            self._wake_both(transfer, now)

    def _give_up(self) -> bool:
        """Full replicas wait for each other: their sequences stay where they are."""
        sources = self.transfers.give_up()
        for index in sources:
            self._wake(index, self.replicas[index].clock.now)
        return bool(sources)

    def _wake_both(self, transfer: Transfer, now: float) -> None:
        """The one has a sequence more to run, the other has pages for those who wait."""
        self._wake(transfer.target, now)
        self._wake(transfer.source, now)

    def _fate(self, sequence: Sequence) -> int:
        return self._underway[sequence.request.id].num_output

    def _on_finish(self, sequence: Sequence, index: int) -> None:
        name = sequence.request.id
        timed = self._underway[name]
        self.on_request(RequestRecord.of(sequence, self.keep_token_times), index)
        self._num_left[name] = self._num_left.get(name, timed.params.num_samples) - 1
        if not self._num_left[name]:
            del self._num_left[name], self._underway[name]
            self._go_on(timed, sequence)

    def _go_on(self, timed: TimedRequest, sequence: Sequence) -> None:
        """The session's next turn, behind what was said."""
        if timed.then is not None and sequence.timing.last_token is not None:
            arrival = sequence.timing.last_token + timed.then.arrival
            self._at(arrival, partial(self._admit, timed.then, tuple(sequence.tokens)))
