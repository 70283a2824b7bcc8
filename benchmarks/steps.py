"""Steps of a real engine, laid out once and run again and again.

The requests go through the engine's own scheduler, and what stands before a step in the cache was
computed by the steps before it.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import Mock, patch

import jax
import numpy as np

from jpaged import LLMEngine
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.request import Request

SECONDS = 0.15  # of one measurement


@dataclass(frozen=True)
class PreparedStep:
    """A step that may be run any number of times: it writes the same slots each time.

    spans: (tokens run, tokens in the cache afterwards) of each sequence.  inputs: what the compiled
    step takes beside the parameters and the cache.
    """

    engine: LLMEngine
    bucket: Bucket
    spans: tuple[tuple[int, int], ...]
    compiled: jax.stages.Compiled
    inputs: tuple

    def run(self) -> float:
        """Runs it once.  Returns the seconds."""
        executor = self.engine.executor
        start = time.perf_counter()
        executor.kv_pages, answer = self.compiled(executor.params, executor.kv_pages, *self.inputs)
        jax.block_until_ready((executor.kv_pages, answer))
        return time.perf_counter() - start


def an_engine(model: str, **options) -> LLMEngine:
    """An engine that compiles a step when it is first needed, and shares no prefixes."""
    return LLMEngine(
        model,
        skip_tokenizer_init=True,
        use_tqdm_on_load=False,
        warmup="none",
        enable_prefix_caching=False,
        **options,
    )


def add_prompts(engine: LLMEngine, count: int, length: int, first: int = 0) -> None:
    """Queues requests of random tokens, named by numbers from `first` on."""
    rng = np.random.default_rng(first)
    most = engine.sizes.max_model_len - length
    params = SamplingParams(temperature=0, max_tokens=most, ignore_eos=True)
    for i in range(first, first + count):
        prompt = tuple(rng.integers(3, engine.model.vocab - 1, length).tolist())
        engine.scheduler.add(Request(str(i), prompt, params, max_tokens=most))


def take_step(engine: LLMEngine, bucket: Bucket | None = None) -> PreparedStep:
    """Schedules the next step, runs it, and returns it for more.

    bucket: None is the smallest that holds it.
    """
    executor, batch = engine.executor, engine.scheduler.schedule(0.0)
    assert batch is not None, "nothing was left to schedule"
    bucket = bucket or executor.bucket(batch)
    spans = tuple((count, sequence.num_computed + count) for sequence, count in batch.items)
    compiled = executor.compiled.step(bucket)
    watched = Mock(wraps=compiled)  # to see what the executor hands to the device
    with (
        patch.object(executor, "bucket", return_value=bucket),
        patch.dict(executor.compiled.steps, {bucket: watched}),
    ):
        output = executor.collect(executor.submit(batch))
    engine.scheduler.update(batch, output, 0.0)
    return PreparedStep(engine, bucket, spans, compiled, watched.call_args.args[2:])


def take_decode(
    engine: LLMEngine, num_sequences: int, bucket: Bucket | None = None
) -> PreparedStep:
    """Goes on until every one of so many sequences runs a single token; returns that step."""
    while True:
        num_pending = [s.num_pending for s in engine.scheduler.running]
        is_ready = num_pending == [1] * num_sequences and not engine.scheduler.waiting
        step = take_step(engine, bucket if is_ready else None)
        if is_ready:
            return step


def seconds_of(run: Callable[[], object]) -> float:
    """The median of as many runs as fit into `SECONDS`, three at least; after one more."""
    run()
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
