"""A device that pretends: it takes the time a cost model says, and answers what fate has in store.

    host      │schedule, pack│                │schedule, pack│
    device                   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓              ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓

With a step scheduled ahead the host's part lies under the device's, as in an engine: nothing here
knows of that, it follows from when the serving loop submits and when it collects.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.cost import CostModel, StepShape
from jpaged.scheduling.request import Request, Sequence
from jpaged.simulator.aftermath import Aftermath
from jpaged.simulator.clock import VirtualClock

Fate = Callable[[Sequence], int]  # how many tokens a sequence will say, its end included


class Pretended(NamedTuple):
    output: StepOutput
    shape: StepShape
    end: float
    entering: float  # seconds of the host, for the answer


class SimulatedDevice:
    """The executor of a serving loop in virtual time.

    Every sequence says a token of its own until its end: samples of one prompt must not look alike
    to the prefix cache.  eos: the token that ends it; those above are nobody else's.  seed: for
    cost models that know how steps scatter.
    """

    def __init__(
        self,
        clock: VirtualClock,
        cost_model: CostModel,
        fate: Fate,
        eos: int,
        buckets: BucketLadder | None = None,
        seed: int = 0,
    ):
        self.clock, self.cost_model, self.fate, self.eos = clock, cost_model, fate, eos
        self.buckets = buckets
        # a cost model may know more than means, and of more than steps
        self._drawn = getattr(cost_model, "drawn", self._mean)
        self._entering = getattr(cost_model, "entering", None)
        self._admitting = getattr(cost_model, "admitting", None)
        self._chance = Random(f"{seed}/device")
        self.free_at = self.owed = 0.0
        self._aftermath = Aftermath()
        self._bucket: Bucket | None = None  # of the batch that is submitted next

    def bucket(self, batch: ScheduledBatch) -> Bucket | None:
        self._bucket = None if self.buckets is None else self.buckets.fit(batch)
        return self._bucket

    def submit(self, batch: ScheduledBatch) -> Pretended:
        shape = StepShape.of(batch, self._bucket, self._aftermath.next_step())
        seconds, host = self._drawn(shape, self._chance)
        self.clock.now += host
        self.free_at = max(self.free_at, self.clock.now) + seconds
        tokens = tuple([self._token(sequence) for sequence, _ in batch.items])
        entering = self._entering(shape, tokens.count(self.eos)) if self._entering else 0.0
        return Pretended(StepOutput(tokens, {}, {}), shape, self.free_at, entering)

    def collect(self, handle: Pretended) -> StepOutput:
        self.clock.wait_until(handle.end)
        self.owed += handle.entering
        self._aftermath.answered(handle.shape)
        return handle.output

    def admit(self, request: Request) -> None:
        """Somebody arrives."""
        if self._admitting:
            self.owed += self._admitting(len(request.prompt))

    def rest(self) -> None:
        """There is nothing to do, until somebody arrives."""
        self._aftermath.rest()

    def catch_up(self) -> None:
        """Lets the host enter what was collected, and admit who has arrived, before it schedules
        again: whoever arrives meanwhile is in time."""
        self.clock.now += self.owed
        self.owed = 0.0

    def _mean(self, shape: StepShape, chance: Random) -> tuple[float, float]:
        return self.cost_model.seconds(shape), self.cost_model.host_seconds

    def _token(self, sequence: Sequence) -> int:
        num_said = len(sequence.tokens) - sequence.num_prompt + sequence.num_expected
        is_last = num_said + 1 >= self.fate(sequence)
        return self.eos if is_last else self.eos + 1 + sequence.serial
