"""Measures the steps of a real engine while it serves: what each was, and what it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jpaged.engine.door import CheckedRequest
from jpaged.engine.llm_engine import LLMEngine
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.cost import StepShape
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import Executor

WAITED = 20e-6  # seconds: who waits for an answer less than that found it there


@dataclass(frozen=True)
class Measured:
    """A step: seconds that the device took, and the host before it was submitted.

    The device took at least `least` and at most `most`.  They are the same where the host saw it
    begin (it was handed this step at rest, or when the host had waited for the end of the one
    before) and waited for its end.  Else it may have begun before the host took the answer before,
    at the earliest when it was handed the step, or been done before the host asked.
    host: since it submitted the step before (or since somebody arrived, after a rest), without
    waiting for answers: entering them, whoever was added, scheduling, packing.  entering: the part
    of it before it scheduled.
    """

    shape: StepShape
    least: float
    most: float
    host: float
    entering: float = 0.0

    @property
    def is_exact(self) -> bool:
        return self.least == self.most


@dataclass(frozen=True)
class _Timed:
    """An executor's handle with what is known of its step."""

    handle: Any
    shape: StepShape
    host: float
    entering: float
    submitted: float
    was_alone: bool


class Meter:
    """An executor that looks at the clock when another one was handed a step, and has answered."""

    def __init__(self, executor: Executor[Any], clock: Callable[[], float] = time.perf_counter):
        self.executor, self.clock = executor, clock
        self.steps: list[Measured] = []
        self._bucket: Bucket | None = None
        self._num_underway = 0
        self._rests, self._has_waited = True, False
        self._answered = self._host_since = self._scheduled = 0.0

    def begin(self) -> None:
        """Somebody arrives, or is about to schedule."""
        self._scheduled = self.clock()
        if self._rests:
            self._host_since, self._rests = self._scheduled, False

    def rest(self) -> None:
        """There is nothing to do, until somebody arrives."""
        self._rests = True

    def bucket(self, batch: ScheduledBatch) -> Bucket | None:
        self._bucket = self.executor.bucket(batch)
        return self._bucket

    def submit(self, batch: ScheduledBatch) -> _Timed:
        shape = StepShape.of(batch, self._bucket)
        handle = self.executor.submit(batch)
        now = self.clock()
        entering, host = self._scheduled - self._host_since, now - self._host_since
        self._host_since = now
        self._num_underway += 1
        return _Timed(handle, shape, host, entering, now, was_alone=self._num_underway == 1)

    def collect(self, handle: _Timed) -> StepOutput:
        asked = self.clock()
        output = self.executor.collect(handle.handle)
        now = self.clock()
        had_waited, self._has_waited = self._has_waited, now - asked > WAITED
        latest = max(self._answered, handle.submitted)
        earliest = latest if handle.was_alone or had_waited else handle.submitted
        least = now - latest if self._has_waited else 0.0
        most = now - earliest
        self.steps.append(Measured(handle.shape, least, most, handle.host, handle.entering))
        self._answered = now
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
    on_step, schedule, check = loop.on_step, scheduler.schedule, engine.check

    def timed_schedule(now: float) -> ScheduledBatch | None:
        meter.begin()
        return schedule(now)

    def timed_check(*request: Any, **options: Any) -> CheckedRequest:
        meter.begin()
        return check(*request, **options)

    def watched_step(record: StepRecord) -> None:
        on_step(record)
        if not scheduler.has_unfinished:
            meter.rest()

    loop.executor, loop.on_step, scheduler.schedule = meter, watched_step, timed_schedule
    setattr(engine, "check", timed_check)  # noqa: B010  (a method, for the while)
    try:
        yield meter
    finally:
        loop.executor, loop.on_step = engine.executor, on_step
        del scheduler.schedule, engine.check
