"""Serves a workload in virtual time: the engine's own scheduler and loop, with nothing to wait for.

workload ──arrivals──► Scheduler ◄──► ServingLoop ◄──► ScriptedExecutor ──seconds──► VirtualClock
                                          └──► StepRecord, StepRecord, …
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.lengths import CONTEXT
from jpaged.simulator.workload import EOS, Workload


class VirtualClock:
    """Seconds that pass when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ScriptedExecutor:
    """Pretends to be a device: a batch takes `seconds(batch)`, and answers what fate has in store.

    Every sequence says a token of its own until its workload says it ends: samples of one prompt
    must not look alike to the prefix cache.
    """

    def __init__(
        self, workload: Workload, clock: VirtualClock, seconds: Callable[[ScheduledBatch], float]
    ):
        self.num_output = {request.name: request.num_output for request in workload}
        self.clock = clock
        self.seconds = seconds

    def bucket(self, batch: ScheduledBatch) -> Bucket | None:
        return None

    def submit(self, batch: ScheduledBatch) -> StepOutput:
        self.clock.now += self.seconds(batch)
        return StepOutput(tuple([self._token(sequence) for sequence, _ in batch.items]), {}, {})

    def collect(self, handle: StepOutput) -> StepOutput:
        return handle

    def _token(self, sequence: Sequence) -> int:
        is_last = sequence.num_generated + 1 >= self.num_output[sequence.request.id]
        return EOS if is_last else EOS + 1 + sequence.serial


class Steering(Protocol):
    """Decides how sequences go on whose latest token is computed (see `Scheduler.extend`)."""

    def steer(self, scheduler: Scheduler, advanced: list[Sequence]) -> None: ...


def replay(
    workload: Workload,
    scheduler: Scheduler,
    seconds: Callable[[ScheduledBatch], float],
    context: int = CONTEXT,
    steering: Steering | None = None,
) -> Iterator[StepRecord]:
    """Serves the workload to its end, as a model of `context` tokens would, and yields a record of
    every step.  Raises `ValueError` for a request that does not fit.

    steering: all sequences are left to it, and end when it says so.
    """
    clock, records = VirtualClock(), deque[StepRecord]()
    executor = ScriptedExecutor(workload, clock, seconds)
    loop = ServingLoop(scheduler, executor, clock, records.append)
    to_come = deque(workload)
    while to_come or scheduler.has_unfinished:
        if not scheduler.has_unfinished:  # nothing happens before the next arrival
            clock.now = max(clock.now, to_come[0].arrival)
        while to_come and to_come[0].arrival <= clock.now:
            scheduler.add(to_come.popleft().as_request(context), steering is not None)
        advanced, _, batch = loop.step()
        assert batch is not None, "requests are there, and nobody can go on"
        if steering is not None:
            steering.steer(scheduler, advanced)
        while records:
            yield records.popleft()
