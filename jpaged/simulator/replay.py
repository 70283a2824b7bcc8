"""Serves a workload in virtual time and tells of every step: no cost model, no frames.

`simulate` does more; this is what it is made of, for those who account for pages themselves.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from jpaged.scheduling.cost import StepShape
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.lengths import CONTEXT
from jpaged.simulator.replica import Replica, serve_alone
from jpaged.simulator.workload import EOS, TimedRequest, Workload


class Steering(Protocol):
    """Decides how sequences go on whose latest token is computed (see `Scheduler.extend`)."""

    def steer(self, scheduler: Scheduler, advanced: list[Sequence]) -> None: ...


@dataclass(frozen=True)
class Seconds:
    """A cost model from a function."""

    function: Callable[[StepShape], float]
    host_seconds: float = 0.0

    def seconds(self, shape: StepShape) -> float:
        return self.function(shape)


def replay(
    workload: Workload,
    scheduler: Scheduler,
    seconds: Callable[[StepShape], float],
    context: int = CONTEXT,
    steering: Steering | None = None,
) -> Iterator[StepRecord]:
    """Serves the workload to its end, as a model of `context` tokens would, and yields a record of
    every step.  Raises `ValueError` for a request that does not fit.

    steering: all sequences are left to it, and end when it says so.
    """
    num_output = {request.name: request.num_output for request in workload}
    records = deque[StepRecord]()
    replica = Replica(
        scheduler,
        Seconds(seconds),
        lambda sequence: num_output[sequence.request.id],
        EOS,
        on_step=records.append,
    )

    def admit(timed: TimedRequest) -> None:
        refused = replica.add(timed.as_request(context), steering is not None)
        assert refused is None, refused

    for did_anything in serve_alone(replica, workload, admit):
        assert did_anything, "requests are there, and nobody can go on"
        if steering is not None:
            steering.steer(scheduler, replica.advanced)
        while records:
            yield records.popleft()
