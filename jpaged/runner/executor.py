"""Runs batches on a device: one compiled step a bucket, and the cache they write into."""

import copy
import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jpaged.layers.paged import KVPages
from jpaged.models.base import KVCache
from jpaged.runner.compile_monitor import Watch, report_late, watching
from jpaged.runner.compiled import CompiledSteps, Progress
from jpaged.runner.host_pages import HostPages, Numbers
from jpaged.runner.interrupts import uninterrupted
from jpaged.runner.letter import seal
from jpaged.runner.memory import MemoryReport, free_bytes
from jpaged.runner.program import SCORED_ROWS, StepProgram
from jpaged.sampling.sampler import Logprobs
from jpaged.scheduling.batch import ScheduledBatch, StepOutput, TokenLogprobs
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.request import Sequence
from jpaged.weights.functional import Params, num_bytes
from pallas_kernels.paged_attention.tiles import (
    keys_from_tiles,
    keys_in_tiles,
    values_from_tiles,
    values_in_tiles,
)


class Handle(NamedTuple):
    """A step under way.  Its arrays are still on the device."""

    batch: ScheduledBatch
    starts: list[int]  # each sequence's tokens before it, where prompts are scored
    tokens: jax.Array
    logprobs: Logprobs | None
    hidden: jax.Array


class DeviceExecutor:
    """Owns the parameters, the cache and the compiled steps.

    Once everything is compiled, nothing is compiled any more; `late` counts what was all the same.
    """

    def __init__(
        self,
        program: StepProgram,
        params: Params,
        buckets: BucketLadder,
        jit_monitor: str = "warn",
        swaps: bool = False,
        page_order: str = "plain",
    ):
        self.program, self.params, self.buckets = program, params, buckets
        self.jit_monitor, self.page_order = jit_monitor, page_order
        self.is_twin = False
        self.kv_pages = program.kv_pages()
        self.late = Watch()
        self.compiled = CompiledSteps(program, buckets, swaps)
        self.host = HostPages(self.compiled)
        self.script: deque[Bucket] = deque()  # shapes that steps must have, to do a run again
        self._launched: deque[Bucket] = deque(maxlen=4)
        self._is_warm = False
        self._tokens = program.no_tokens()  # of the latest step

    def warm_up(self, warmup: str = "full", on_compiled: Progress = lambda bucket: None) -> None:
        """Compiles steps before the first request; see `CompiledSteps`."""
        self.compiled.warm_up(warmup, on_compiled)
        self._is_warm = warmup != "none"

    def bucket(self, batch: ScheduledBatch) -> Bucket:
        if self.script:
            return self.script[0]
        fitting = self.buckets.fit(batch)
        return self.compiled.holding(fitting) if self._is_warm else fitting

    def submit(self, batch: ScheduledBatch) -> Handle:
        bucket = self.bucket(batch)
        self._expect(f"bucket {bucket}", bucket in self.compiled.steps)
        step = self.compiled.step(bucket)
        self._launched.append(bucket)
        if self.script:
            self.script.popleft()
        try:
            inputs, sampling, scores_prompt = self.program.packer.pack(batch, bucket)
        except BaseException:
            self.program = self.program.twin()  # who has just sat down may have no rows yet
            raise
        before = self.late.count
        self._move_pages(batch)
        logprobs = None
        with watching(self.late), uninterrupted():
            # an exception before the assignment would lose the cache, which was given away
            self.kv_pages, answer = step(self.params, self.kv_pages, self._tokens, seal(inputs))
            self._tokens = answer.tokens
        if self._is_warm and self.late.count > before:
            report_late(f"an operation beside bucket {bucket}", self.jit_monitor)
        if sampling is not None:
            rows = bucket.num_sequences
            self._expect(f"sampling for {rows} rows", rows in self.compiled.resamples)
            resample = self.compiled.resample(rows)
            self._tokens, logprobs = resample(answer.logits, answer.tokens, sampling)
        starts = [sequence.num_computed for sequence, _ in batch.items] if scores_prompt else []
        return Handle(batch, starts, self._tokens, logprobs, answer.hidden)

    @property
    def is_usable(self) -> bool:
        """Whether the cache is still there after an exception: it is given away to each step."""
        owned = jax.tree.leaves((self.kv_pages, self._tokens))
        try:
            jax.block_until_ready(owned)
        except RuntimeError:  # the step that was to write it failed, or took it along
            return False
        return not any(leaf.is_deleted() for leaf in owned)

    @property
    def latest_compilation(self) -> float:
        """When something was compiled last, on the monotonic clock; now, while something is."""
        return self.compiled.latest

    @property
    def num_compiled(self) -> int:
        """Programs that were compiled so far."""
        return self.compiled.num_compiled

    def culprits(self, batch: ScheduledBatch) -> list[Sequence]:
        """The sequences whose own options make packing a batch raise."""
        found = []
        for sequence, _ in batch.items:
            try:
                self.program.packer.rehearse(sequence)
            except Exception:  # the very one, as a rule, that the whole batch raised
                found.append(sequence)
        return found

    def pop_launched(self) -> list[Bucket]:
        """The shapes of the steps submitted since this was asked before; of the latest few."""
        launched = list(self._launched)
        self._launched.clear()
        return launched

    def _move_pages(self, batch: ScheduledBatch) -> None:
        """To the host, within the cache, and from the host, before the step."""
        kinds = (batch, *batch.placed)
        for index, (sequence, _) in enumerate(batch.swap_outs):
            numbers = [each.swap_outs[index][1] for each in kinds]
            self.host.save(self.kv_pages, sequence, numbers)
        if batch.page_copies:
            self._copy_pages([each.page_copies for each in kinds])
        for index, (sequence, first, _) in enumerate(batch.swap_ins):
            numbers = [each.swap_ins[index][2] for each in kinds]
            with uninterrupted():
                self.kv_pages = self.host.restore(self.kv_pages, sequence, first, numbers)

    def _copy_pages(self, pairs: list[tuple[tuple[int, int], ...]]) -> None:
        num_pairs = len(pairs[0])
        count = next(count for count in self.compiled.num_copies if count >= num_pairs)
        self._expect(f"copying {count} pages", count in self.compiled.copies)
        copy = self.compiled.copier(count)
        padded = self.program.nowhere(2, count)
        padded[:, :, :num_pairs] = np.array(pairs).transpose(0, 2, 1)
        with watching(self.late), uninterrupted():
            self.kv_pages = copy(self.kv_pages, padded)

    def _expect(self, what: str, is_there: bool) -> None:
        """Speaks up where something is compiled after everything was."""
        if not is_there and self._is_warm and self.compiled.is_complete:
            self.late.count += 1
            report_late(what, self.jit_monitor)

    def collect(self, handle: Handle) -> StepOutput:
        """Waits for a step and brings its tokens to the host."""
        tokens = np.asarray(handle.tokens)[: handle.batch.num_sequences].tolist()
        entries = {} if handle.logprobs is None else self._logprobs(handle, tokens)
        scored = self._prompt_logprobs(handle) if handle.starts else {}
        return StepOutput(tuple(tokens), entries, scored)

    def _logprobs(self, handle: Handle, tokens: list[int]) -> dict[int, TokenLogprobs]:
        on_host = jax.tree.map(np.asarray, handle.logprobs)
        asked = [sequence.request.params.num_logprobs for sequence, _ in handle.batch.items]
        return {
            row: _entry(on_host, row, tokens[row], most)
            for row, most in enumerate(asked)
            if most is not None
        }

    def _prompt_logprobs(self, handle: Handle) -> dict[int, tuple[int, tuple[TokenLogprobs, ...]]]:
        """Scores the prompt positions of the requests that asked, in the pieces just computed."""
        scored, start = {}, 0
        for row, (sequence, count) in enumerate(handle.batch.items):
            done, most = handle.starts[row], sequence.request.params.prompt_logprobs
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
        score = self.compiled.scorer()
        for first in range(0, len(targets), SCORED_ROWS):
            tokens = np.zeros(SCORED_ROWS, np.int32)
            rows = np.zeros((SCORED_ROWS, hidden.shape[1]), hidden.dtype)
            piece = targets[first : first + SCORED_ROWS]
            tokens[: len(piece)] = piece
            rows[: len(piece)] = hidden[first : first + SCORED_ROWS]
            found = jax.tree.map(np.asarray, score(self.params, rows, tokens))
            yield from (_entry(found, row, token, most) for row, token in enumerate(piece))

    def twin(self) -> "DeviceExecutor":
        """Another executor with an empty cache, on the same weights and compiled steps.

        It must be closed before this one.
        """
        twin = copy.copy(self)
        twin.program = self.program.twin()
        twin.kv_pages, twin._tokens = twin.program.kv_pages(), twin.program.no_tokens()
        twin.late, twin.is_twin = Watch(), True
        twin.script, twin._launched = deque(), deque(maxlen=4)
        twin.host = HostPages(self.compiled)
        return twin

    def clear(self) -> None:
        """Forgets who sat where and what the host kept: other sequences will come."""
        self.program = self.program.twin()
        self.host = HostPages(self.compiled)

    def read_pages(self, numbers: Numbers) -> KVCache:
        """Copies of pages, on the host, in plain order, side by side and padded.

        numbers: of the pages, and of their places for each narrower window.
        """
        rows = self.compiled.gather(len(numbers[0]))(self.kv_pages, self.host.padded(numbers))
        return self.in_plain_order(rows)

    def write_pages(self, numbers: Numbers, rows: KVCache) -> None:
        """Puts what `read_pages` gave into these pages."""
        scatter = self.compiled.scatter(len(numbers[0]))
        rows, padded = self.in_own_order(rows), self.host.padded(numbers)
        self.kv_pages = scatter(self.kv_pages, rows, padded)

    def in_plain_order(self, rows: KVCache) -> KVCache:
        """From the order in which the kernels keep pages here."""
        if self.page_order == "tiles":
            rows = tuple(
                KVPages(keys_from_tiles(each.k), values_from_tiles(each.v)) for each in rows
            )
        return jax.tree.map(np.asarray, rows)

    def in_own_order(self, rows: KVCache) -> KVCache:
        """To the order in which the kernels keep pages here."""
        rows = jax.tree.map(jnp.asarray, rows)
        if self.page_order == "tiles":
            return tuple(KVPages(keys_in_tiles(each.k), values_in_tiles(each.v)) for each in rows)
        return rows

    def memory_report(self) -> MemoryReport:
        packer = self.program.packer
        kv_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.kv_pages))
        return MemoryReport(
            weights=num_bytes(self.params),
            kv_pages=kv_bytes,
            num_pages=packer.num_pages,
            page=kv_bytes // packer.num_pages,
            temporary=self.compiled.temporary_bytes(),
            num_steps=len(self.compiled.steps),
            num_step_shapes=len(self.buckets.all),
            host_pages=self.host.num_bytes,
            free=free_bytes(),
        )

    def close(self) -> None:
        """Frees the parameters, the cache and the compiled steps.  The executor is of no more
        use."""
        owned = (self.kv_pages, self._tokens)
        if not self.is_twin:  # the weights and the steps are the other's
            self.compiled.close()
            owned = (self.params, *owned)
        for leaf in jax.tree.leaves(owned):
            leaf.delete()
        self.params, self.kv_pages = {}, ()


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
