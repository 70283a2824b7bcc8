"""One engine in virtual time: the scheduler and the loop that serve, on a device that pretends."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Protocol

from jpaged.errors import RequestRejected
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.clock import VirtualClock
from jpaged.simulator.device import Fate, SimulatedDevice

OnFinish = Callable[[Sequence], None]
OnStep = Callable[[StepRecord], None]


class Replica:
    """Serves what it is given.  `advanced` are the sequences that its latest step moved on.

    num_coming: sequences on their way from other replicas.  stopwatch: as of `ServingLoop`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        cost_model: CostModel,
        fate: Fate,
        eos: int,
        *,
        ahead: int = 0,
        on_step: OnStep = lambda _: None,
        on_finish: OnFinish = lambda _: None,
        stopwatch: Callable[[], float] | None = None,
    ):
        self.scheduler = scheduler
        self.clock = VirtualClock()
        self.device = SimulatedDevice(
            self.clock, cost_model, fate, eos, scheduler.buckets, scheduler.seed
        )
        self.loop = ServingLoop(
            scheduler, self.device, self.clock, on_step, ahead, on_finish, stopwatch=stopwatch
        )
        self.advanced: list[Sequence] = []
        self.num_coming = 0

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_unfinished or self.loop.is_underway

    @property
    def wake_at(self) -> float | None:
        """When to step again, if the latest step did nothing because the policy wants to wait."""
        return self.scheduler.wake_at

    def add(self, request: Request, is_steered: bool = False) -> str | None:
        """Queues a request, at its arrival.  Returns why it is refused, if it is."""
        if not self.has_work:
            self.clock.wait_until(request.arrival)
        try:
            self.scheduler.add(request, is_steered)
        except RequestRejected as error:
            return str(error)
        self.device.admit(request)
        return None

    def run_step(self) -> bool:
        """Runs a step.  False if nobody ran."""
        self.device.catch_up()
        self.advanced, _, batch = self.loop.step()
        self.device.catch_up()
        if not self.scheduler.has_unfinished:
            self.device.rest()
        return batch is not None

    def step(self, until: float) -> bool:
        """Runs a step; or waits, if the policy wants to, but not beyond `until`, when somebody
        arrives.  False if there is nothing to do."""
        if self.run_step():
            return True
        if self.wake_at is None:
            return False
        self.clock.wait_until(min(self.wake_at, until))
        return True


class Arriving(Protocol):
    @property
    def arrival(self) -> float: ...


def serve_alone[Each: Arriving](
    replica: Replica, arrivals: Iterable[Each], admit: Callable[[Each], object]
) -> Iterator[bool]:
    """Serves what arrives, in order, to the end.  Yields after each step whether it did anything.

    admit: queues one of them, at its arrival.
    """
    to_come = deque(arrivals)
    while to_come or replica.has_work:
        now = replica.clock.now if replica.has_work else to_come[0].arrival
        while to_come and to_come[0].arrival <= now:
            admit(to_come.popleft())
        yield replica.step(to_come[0].arrival if to_come else inf)
