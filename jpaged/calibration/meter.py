"""Measures the steps of a real engine while it serves: what each was, and what it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jpaged.engine.door import Prompt
from jpaged.engine.llm_engine import LLMEngine
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.cost import StepShape
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import Executor
from jpaged.simulator.aftermath import Aftermath

WAITED = 20e-6  # seconds: who waits for an answer less than that found it there


@dataclass(slots=True)
class Measured:
    """A step: seconds that the device took, and the host before it was submitted.

    The device took at least `least` and at most `most`.  They are the same where the host saw it
    begin (it was handed this step at rest, or when the host had waited for the end of the one
    before) and waited for its end.  Else it may have begun before the host took the answer before,
    at the earliest when it was handed the step, or been done before the host asked.
    host: since it submitted the step before (or since somebody arrived, after a rest), without
    waiting for answers, entering them and admitting requests: scheduling, packing, submitting.
    entering: this step's answer, with which so many sequences ended; None where the host could
    rest then.
    """

    shape: StepShape
    least: float
    most: float
    host: float
    entering: float | None = None
    num_ended: int = 0

    @property
    def is_exact(self) -> bool:
        return self.least == self.most


@dataclass(frozen=True)
class Admitted:
    """A request that was checked and queued."""

    num_tokens: int
    seconds: float


@dataclass(frozen=True)
class _Timed:
    """An executor's handle with what is known of its step."""

    handle: Any
    shape: StepShape
    host: float
    submitted: float
    was_alone: bool


class Meter:
    """An executor that looks at the clock when another one was handed a step, and has answered."""

    def __init__(self, executor: Executor[Any], clock: Callable[[], float] = time.perf_counter):
        self.executor, self.clock = executor, clock
        self.steps: list[Measured] = []
        self.admitted: list[Admitted] = []
        self._bucket: Bucket | None = None
        self._num_underway = 0
        self._rests, self._has_waited = True, False
        self._aftermath = Aftermath()
        self._answered = self._host_since = 0.0
        self._entering_since: float | None = None

    def begin(self) -> float:
        """It admits, schedules or asks: what was answered before is entered.  Returns when."""
        now = self.clock()
        if self._rests:
            self._host_since, self._rests = now, False
        elif self._entering_since is not None:
            taken = now - self._entering_since
            self.steps[-1].entering = taken
            self._host_since += taken
        self._entering_since = None
        return now

    def admit(self, num_tokens: int, begun: float) -> None:
        """A request was queued; it began then."""
        seconds = self.clock() - begun
        self.admitted.append(Admitted(num_tokens, seconds))
        self._host_since += seconds

    def end(self, num_ended: int) -> None:
        """So many sequences have ended with the latest answer."""
        self.steps[-1].num_ended = num_ended

    def rest(self) -> None:
        """There is nothing to do, until somebody arrives."""
        self._rests = True
        self._aftermath.rest()

    def bucket(self, batch: ScheduledBatch) -> Bucket | None:
        self._bucket = self.executor.bucket(batch)
        return self._bucket

    def submit(self, batch: ScheduledBatch) -> _Timed:
        shape = StepShape.of(batch, self._bucket, self._aftermath.next_step())
        handle = self.executor.submit(batch)
        now = self.clock()
        host, self._host_since = now - self._host_since, now
        self._num_underway += 1
        return _Timed(handle, shape, host, now, was_alone=self._num_underway == 1)

    def collect(self, handle: _Timed) -> StepOutput:
        asked = self.begin()
        output = self.executor.collect(handle.handle)
        now = self.clock()
        had_waited, self._has_waited = self._has_waited, now - asked > WAITED
        latest = max(self._answered, handle.submitted)
        earliest = latest if handle.was_alone or had_waited else handle.submitted
        least = now - latest if self._has_waited else 0.0
        most = now - earliest
        self.steps.append(Measured(handle.shape, least, most, handle.host))
        self._aftermath.answered(handle.shape)
        self._answered = self._entering_since = now
        if self._has_waited:
            self._host_since += now - asked
        self._num_underway -= 1
        return output


@contextmanager
def metered(engine: LLMEngine) -> Iterator[Meter]:
    """Lets a meter stand between an engine's loop and its executor; the engine has nothing to do
    yet."""
    meter = Meter(engine.executor)
    loop: Any = engine.loop  # of the executor's handles; the meter has its own
    scheduler = engine.scheduler
    on_step, schedule, add = loop.on_step, scheduler.schedule, engine.add_request

    def timed_schedule(now: float) -> ScheduledBatch | None:
        meter.begin()
        return schedule(now)

    def timed_add(name: str, prompt: Prompt, *rest: Any, **options: Any) -> str:
        begun = meter.begin()
        added = add(name, prompt, *rest, **options)
        meter.admit(len(prompt), begun)
        return added

    def watched_step(record: StepRecord) -> None:
        on_step(record)
        meter.end(record.num_finished)
        if not scheduler.has_unfinished:
            meter.rest()

    loop.executor, loop.on_step, scheduler.schedule = meter, watched_step, timed_schedule
    setattr(engine, "add_request", timed_add)  # noqa: B010  (a method, for the while)
    try:
        yield meter
    finally:
        loop.executor, loop.on_step = engine.executor, on_step
        del scheduler.schedule, engine.add_request
