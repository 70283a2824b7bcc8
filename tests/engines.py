"""Small engines, and what tests ask of them again and again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jpaged import LLM, CompletionOutput, LLMEngine, RequestOutput, SamplingParams
from jpaged.engine.outputs import PositionLogprobs, RequestStateStats

# four compiled steps of the tiny model, about three seconds of one core each
SMALL = {
    "page_size": 4,
    "num_pages": 128,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 32,
    "use_tqdm_on_load": False,
    # a compiler in the background would race for Python's warning filters, which are global
    "warmup": "full",
}


def a_llm(folder: Path, **options: Any) -> LLM:
    return LLM(str(folder), **{**SMALL, **options})


def an_engine(folder: Path, **options: Any) -> LLMEngine:
    return LLMEngine(str(folder), **{**SMALL, **options})


def greedily(max_tokens: int | None = 8, **params: Any) -> SamplingParams:
    return SamplingParams(
        **{"temperature": 0.0, "max_tokens": max_tokens, "ignore_eos": True, **params}
    )


def random_prompts(seed: int, count: int, shortest: int = 3, longest: int = 40) -> list[list[int]]:
    """Token ids of ordinary tokens."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(4, 384, rng.integers(shortest, longest + 1)).tolist() for _ in range(count)
    ]


def tokens_of(outputs: Iterable[RequestOutput]) -> list[list[int]]:
    """Of the only sample of each."""
    return [first(output).token_ids for output in outputs]


def first(output: RequestOutput) -> CompletionOutput:
    return output.outputs[0]


def stats(output: RequestOutput) -> RequestStateStats:
    assert output.metrics is not None
    return output.metrics


def logprobs(sample: CompletionOutput) -> list[PositionLogprobs]:
    assert sample.logprobs is not None
    return sample.logprobs


def prompt_logprobs(output: RequestOutput) -> list[PositionLogprobs]:
    """{} for the first token."""
    assert output.prompt_logprobs is not None
    return [position or {} for position in output.prompt_logprobs]


def run(engine: LLMEngine) -> dict[str, list[RequestOutput]]:
    """Steps until nothing is left; all outputs of each request, in order."""
    outputs: dict[str, list[RequestOutput]] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
    return outputs


def last(engine: LLMEngine) -> dict[str, RequestOutput]:
    """Steps until nothing is left; the final output of each request."""
    return {request_id: outputs[-1] for request_id, outputs in run(engine).items()}


def num_held_pages(engine: LLMEngine) -> int:
    return engine.scheduler.pool.num_held
