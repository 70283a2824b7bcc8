"""The serving loop: schedule, submit, collect, update.

The same loop drives a device and a simulation; only the executor and the clock differ.
"""

from collections.abc import Callable
from typing import Protocol

from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler


class Executor[Handle](Protocol):
    """Runs batches.  `submit` may return before the work is done; `collect` waits for it."""

    def submit(self, batch: ScheduledBatch) -> Handle: ...

    def collect(self, handle: Handle) -> StepOutput: ...

    def bucket(self, batch: ScheduledBatch) -> Bucket | None:
        """The compiled shape this batch runs in, if there is such a thing."""
        ...


class ServingLoop[Handle]:
    """Runs one step after another.  `on_step(record)` hears of each."""

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor[Handle],
        clock: Callable[[], float],
        on_step: Callable[[StepRecord], None] = lambda _: None,
    ):
        self.scheduler = scheduler
        self.executor = executor
        self.clock = clock
        self.on_step = on_step
        self.num_steps = 0

    def step(self) -> tuple[list[Sequence], StepOutput | None, ScheduledBatch | None]:
        """One step.  Returns the sequences that got a token, and what was run; empty when idle.

        An interruption before the last line loses nothing: the batch is simply run again.
        """
        start = self.clock()
        batch = self.scheduler.schedule(start)
        if batch is None:
            return [], None, None
        output = self.executor.collect(self.executor.submit(batch))
        memory = self._memory(batch)
        advanced = self.scheduler.update(batch, output, self.clock())
        self._record(start, batch, advanced, memory)
        return advanced, output, batch

    def _memory(self, batch: ScheduledBatch) -> dict[str, int]:
        """Pages and slots at the height of the step, before finished sequences let go."""
        pool, queues = self.scheduler.pool, self.scheduler.queues
        empty = sum(len(s.pages) * pool.page_size - s.num_computed for s in queues.running)
        # what the step wrote is computed only after `update`
        empty -= sum(count for sequence, count in batch.items if not sequence.is_finished)
        held = pool.num_held * pool.page_size
        return {
            "pages_held": pool.num_held,
            "pages_idle": pool.num_idle,
            "slots_held": held,
            "slots_used": held - empty,
        }

    def _record(self, start: float, batch: ScheduledBatch, advanced, memory) -> None:
        self.on_step(
            StepRecord(
                index=self.num_steps,
                start=start,
                end=self.clock(),
                bucket=self.executor.bucket(batch),
                num_tokens=batch.num_tokens,
                num_sequences=batch.num_sequences,
                num_waiting=len(self.scheduler.queues.waiting),
                num_preempted=len(batch.preempted),
                num_finished=sum(sequence.is_finished for sequence in advanced),
                **memory,
            )
        )
        self.num_steps += 1
