"""The serving loop: schedule, submit, advance; collect, update.

The same loop drives a device and a simulation; only the executor and the clock differ.

    ahead = 0    schedule submit ▓▓▓▓▓▓ collect update schedule submit ▓▓▓▓▓▓ collect update
    ahead = 1    schedule submit ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
                       schedule submit     collect update schedule submit     collect update
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.report import num_empty_slots
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler

MOST_ASLEEP = 5e-3  # seconds


class Executor[Handle](Protocol):
    """Runs batches, in order.  `submit` may return before the work is done; `collect` waits."""

    def submit(self, batch: ScheduledBatch) -> Handle: ...

    def collect(self, handle: Handle) -> StepOutput: ...

    def bucket(self, batch: ScheduledBatch) -> Bucket | None:
        """The compiled shape this batch runs in, if there is such a thing."""
        ...


class Watcher[Sight](Protocol):
    """Sees the scheduler as it is during each step."""

    def look(self) -> Sight:
        """Once the step is on its way.  Changes nothing."""
        ...

    def keep(self, record: StepRecord, seen: Sight) -> None:
        """It has answered; of a step for which nobody waits any more, nothing is kept."""
        ...


@dataclass(frozen=True)
class Underway[Handle]:
    """A step that was submitted: what runs, and how full the memory is meanwhile."""

    batch: ScheduledBatch
    handle: Handle
    bucket: Bucket | None
    start: float
    num_waiting: int
    num_recomputed: int
    memory: dict[str, int]
    sights: list[tuple[Watcher, Any]]


@dataclass
class Seconds:
    """What the loop's own time went into: deciding what runs, packing and sending it, and waiting
    for answers.  These only grow."""

    deciding: float = 0.0
    sending: float = 0.0
    waiting: float = 0.0


class ServingLoop[Handle]:
    """Runs one step after another.  `on_step(record)` hears of each, `on_finish` of each sequence;
    `watchers`, to which anybody may add, see what the scheduler holds meanwhile.

    ahead: how many steps may be scheduled beyond the one whose tokens are awaited, 0 or 1.  sleep:
    for a while, because the policy wants to wait; never longer than MOST_ASLEEP at once, since
    somebody may arrive meanwhile.  stopwatch: what `seconds` is measured with, and the policy's;
    unlike the clock, nothing depends on what it says.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor[Handle],
        clock: Callable[[], float],
        on_step: Callable[[StepRecord], None] = lambda _: None,
        ahead: int = 0,
        on_finish: Callable[[Sequence], None] = lambda _: None,
        sleep: Callable[[float], None] = lambda _: None,
        stopwatch: Callable[[], float] | None = None,
    ):
        self.scheduler = scheduler
        self.executor = executor
        self.clock = clock
        self.on_step = on_step
        self.ahead = ahead
        self.on_finish = on_finish
        self.sleep = sleep
        self.stopwatch = stopwatch or (lambda: 0.0)
        scheduler.counsel.stopwatch = stopwatch
        self.seconds = Seconds()
        self.num_steps = 0
        self.watchers: list[Watcher] = []
        self._underway: deque[Underway[Handle]] = deque()
        self._last_end = 0.0
        self._must_wait = False  # a batch was taken back: the executor may have seen it
        # what the executor raised for, when `step` raises: a batch that was not sent, and was taken
        # back, or one that was not answered, and is under way
        self.unsent: ScheduledBatch | None = None
        self.unanswered: ScheduledBatch | None = None

    def step(self) -> tuple[list[Sequence], StepOutput | None, ScheduledBatch | None]:
        """One step.  Returns the sequences that got a token, and what was run; empty when idle.

        An interruption while it waits loses nothing: the next call waits for the same step.
        """
        self.unsent = self.unanswered = None
        self.drop_ended()
        while len(self._underway) <= self.ahead and self._can_go_on() and self._launch():
            pass
        return self.collect()

    @property
    def is_underway(self) -> bool:
        """Whether a step was submitted that nobody has collected."""
        return bool(self._underway)

    def collect(self) -> tuple[list[Sequence], StepOutput | None, ScheduledBatch | None]:
        """The same for the oldest step under way, without launching another; empty if none is."""
        if not self._underway:
            self._tell_ended()
            return [], None, None
        step = self._underway[0]
        self.unanswered = step.batch
        asked = self.stopwatch()
        output = self.executor.collect(step.handle)
        self.seconds.waiting += self.stopwatch() - asked
        self.unanswered = None
        advanced = self.scheduler.update(step.batch, output, self.clock())
        self._underway.popleft()
        self._must_wait = False
        self._record(step, advanced)
        self._tell_ended()
        self.drop_ended()
        return advanced, output, step.batch

    def drop_ended(self) -> None:
        """Nobody waits for a step whose sequences have all ended meanwhile."""
        underway = self._underway
        while underway and all(sequence.is_finished for sequence, _ in underway[0].batch.items):
            self.scheduler.drop(underway.popleft().batch)
        self._must_wait &= bool(underway)

    def _can_go_on(self) -> bool:
        """False while a token that nobody knows yet decides what may follow it."""
        if not self._underway:
            return True
        items = self._underway[-1].batch.items
        return not self._must_wait and not any(s.needs_known_tokens for s, _ in items)

    def _launch(self) -> bool:
        """Schedules and submits the next step, if there is one."""
        start, asked = self.clock(), self.stopwatch()
        batch = self.scheduler.schedule(start)
        decided = self.stopwatch()
        self.seconds.deciding += decided - asked
        if batch is None:
            if self.scheduler.wake_at is not None:
                self.sleep(min(self.scheduler.wake_at - start, MOST_ASLEEP))
            return False
        try:
            bucket = self.executor.bucket(batch)
            handle = self.executor.submit(batch)
        except BaseException:
            self.scheduler.cancel(batch)
            self._must_wait, self.unsent = True, batch
            raise
        self.seconds.sending += self.stopwatch() - decided
        before = self.scheduler.counts.num_recomputed
        self.scheduler.advance(batch)
        num_recomputed = self.scheduler.counts.num_recomputed - before
        num_waiting = len(self.scheduler.queues.waiting)
        memory, sights = self._memory(), [(each, each.look()) for each in self.watchers]
        self._underway.append(
            Underway(batch, handle, bucket, start, num_waiting, num_recomputed, memory, sights)
        )
        return True

    def _tell_ended(self) -> None:
        ended = self.scheduler.ended
        while ended:
            self.on_finish(ended.pop(0))

    def _memory(self) -> dict[str, int]:
        """Pages and slots at the height of the step, before finished sequences let go."""
        pool, queues = self.scheduler.pool, self.scheduler.queues
        unshared = sum([len(s.pages) for s in queues.running])
        passed = sum([s.num_passed for s in queues.running]) if queues.window else 0
        if unshared == pool.num_held:
            empty = pool.page_size * unshared - sum([s.num_computed for s in queues.running])
        else:
            empty = num_empty_slots(queues.running, pool.page_size)
        held = pool.num_held * pool.page_size
        return {
            "pages_held": pool.num_held,
            "pages_unshared": unshared - passed,
            "pages_idle": pool.num_idle,
            "pages_free": pool.num_free - pool.num_idle,
            "slots_held": held,
            "slots_used": held - empty,
        }

    def _record(self, step: Underway[Handle], advanced: list[Sequence]) -> None:
        start, self._last_end = max(step.start, self._last_end), self.clock()
        pool = self.scheduler.pool
        record = StepRecord(
            index=self.num_steps,
            start=start,
            end=self._last_end,
            bucket=step.bucket,
            num_tokens=step.batch.num_tokens,
            num_sequences=step.batch.num_sequences,
            num_waiting=step.num_waiting,
            num_preempted=len(step.batch.preempted),
            num_finished=sum(sequence.is_finished for sequence in advanced),
            num_recomputed=step.num_recomputed,
            pages_copied=len(step.batch.page_copies),
            pages_swapped_out=sum(len(pages) for _, pages in step.batch.swap_outs),
            pages_swapped_in=sum(len(pages) for _, _, pages in step.batch.swap_ins),
            pages_held_after=pool.num_held,
            pages_idle_after=pool.num_idle,
            **step.memory,
        )
        for watcher, seen in step.sights:
            watcher.keep(record, seen)
        self.on_step(record)
        self.num_steps += 1
