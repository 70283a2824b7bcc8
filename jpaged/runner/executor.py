"""Runs batches on a device: one compiled step a bucket, and the cache they write into."""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from jpaged.runner.compile_monitor import Watch, report_late, watching
from jpaged.runner.interrupts import uninterrupted
from jpaged.runner.program import SCORED_ROWS, StepProgram
from jpaged.sampling.sampler import Logprobs, Sampled
from jpaged.scheduling.batch import ScheduledBatch, StepOutput, TokenLogprobs
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.weights.functional import Params

COMPILERS = 2  # threads; tracing holds the interpreter's lock, compiling does not
Progress = Callable[[Bucket], object]


class Handle(NamedTuple):
    """A step under way.  Its arrays are still on the device."""

    batch: ScheduledBatch
    sampled: Sampled
    hidden: jax.Array


class DeviceExecutor:
    """Owns the cache and the compiled steps.

    After `warm_up` nothing is compiled any more; `num_compiled` counts the buckets, and `late`
    what was compiled while serving all the same.
    """

    def __init__(
        self, program: StepProgram, params: Params, buckets: BucketLadder, jit_monitor: str = "warn"
    ):
        self.program, self.params, self.buckets = program, params, buckets
        self.jit_monitor = jit_monitor
        self.kv_pages = program.kv_pages()
        self.late = Watch()
        self.is_warm = False
        self._steps: dict[Bucket, jax.stages.Compiled] = {}
        self._score: jax.stages.Compiled | None = None

    @property
    def num_compiled(self) -> int:
        return len(self._steps)

    def bucket(self, batch: ScheduledBatch) -> Bucket:
        return self.buckets.fit(batch)

    def warm_up(self, on_compiled: Progress = lambda bucket: None) -> None:
        """Compiles every bucket (or reads it from the persistent cache)."""
        with ThreadPoolExecutor(COMPILERS) as pool:
            lowered = ((bucket, self.program.lower(bucket)) for bucket in self.buckets.all)
            running = [(bucket, pool.submit(each.compile)) for bucket, each in lowered]
            for bucket, compiled in running:
                self._steps[bucket] = compiled.result()
                on_compiled(bucket)
        self._score = self.program.lower_score().compile()
        self.is_warm = True

    def submit(self, batch: ScheduledBatch) -> Handle:
        bucket = self.bucket(batch)
        compiled = self._steps.get(bucket) or self._compile_late(bucket)
        inputs = self.program.packer.pack(batch, bucket)
        before = self.late.count
        with watching(self.late), uninterrupted():
            # an exception before the assignment would lose the cache, which was given away
            self.kv_pages, sampled, hidden = compiled(self.params, self.kv_pages, inputs)
        if self.is_warm and self.late.count > before:
            report_late(f"an operation beside bucket {bucket}", self.jit_monitor)
        return Handle(batch, sampled, hidden)

    def _compile_late(self, bucket: Bucket) -> jax.stages.Compiled:
        if self.is_warm:
            report_late(f"bucket {bucket}", self.jit_monitor)
        with watching(self.late if self.is_warm else Watch()):
            self._steps[bucket] = self.program.lower(bucket).compile()
        return self._steps[bucket]

    def collect(self, handle: Handle) -> StepOutput:
        """Waits for a step and brings its tokens to the host."""
        batch, sampled, _ = handle
        tokens = np.asarray(sampled.tokens).tolist()
        params = [sequence.request.params for sequence, _ in batch.items]
        wants_logprobs = [p.logprobs is not None for p in params]
        entries = {}
        if any(wants_logprobs):
            on_host = jax.tree.map(np.asarray, sampled.logprobs)
            entries = {
                row: _entry(on_host, row, tokens[row], params[row].logprobs or 0)
                for row in np.flatnonzero(wants_logprobs).tolist()
            }
        return StepOutput(
            tuple(tokens[: batch.num_sequences]), entries, self._prompt_logprobs(handle)
        )

    def _prompt_logprobs(self, handle: Handle) -> dict[int, tuple[int, tuple[TokenLogprobs, ...]]]:
        """Scores the prompt positions of the requests that asked, in the pieces just computed."""
        scored, start = {}, 0
        for row, (sequence, count) in enumerate(handle.batch.items):
            done, most = sequence.num_computed, sequence.request.params.prompt_logprobs
            count_inside = min(count, sequence.num_prompt - 1 - done)
            if most is not None and count_inside > 0:
                targets = sequence.tokens[done + 1 : done + 1 + count_inside]
                hidden = np.asarray(handle.hidden)[start : start + count_inside]
                scored[row] = done + 1, tuple(self._score_rows(hidden, targets, most))
            start += count
        return scored

    def _score_rows(
        self, hidden: np.ndarray, targets: list[int], most: int
    ) -> Iterable[TokenLogprobs]:
        if self._score is None:
            self._score = self.program.lower_score().compile()
        for first in range(0, len(targets), SCORED_ROWS):
            tokens = np.zeros(SCORED_ROWS, np.int32)
            rows = np.zeros((SCORED_ROWS, hidden.shape[1]), hidden.dtype)
            piece = targets[first : first + SCORED_ROWS]
            tokens[: len(piece)] = piece
            rows[: len(piece)] = hidden[first : first + SCORED_ROWS]
            found = jax.tree.map(np.asarray, self._score(self.params, rows, tokens))
            yield from (_entry(found, row, token, most) for row, token in enumerate(piece))

    def close(self) -> None:
        """Frees the parameters, the cache and the compiled steps.  The executor is of no more
        use."""
        for leaf in jax.tree.leaves((self.params, self.kv_pages)):
            leaf.delete()
        self.params, self.kv_pages, self._score = {}, (), None
        self._steps.clear()


def _entry(logprobs: Logprobs, row: int, token: int, most: int) -> TokenLogprobs:
    top = logprobs.top[row, :most].tolist()
    return TokenLogprobs(
        token=token,
        logprob=_finite(float(logprobs.chosen[row])),
        rank=int(logprobs.rank[row]),
        top_tokens=tuple(logprobs.top_tokens[row, :most].tolist()),
        top_logprobs=tuple(map(_finite, top)),
    )


def _finite(logprob: float) -> float:
    """-inf is no JSON; vLLM clamps alike."""
    return max(logprob, -9999.0) if not math.isnan(logprob) else logprob
