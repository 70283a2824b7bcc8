"""The engine on random weights: its decode step and its throughput beside their rooflines.

A step cannot be faster than reading the weights and the cache at the speed of a copy; a whole run
not faster than that for each token, and multiplying its prompts at the rate of a large matmul.
The engine is the public one.  Its weights are drawn on the device instead of read, and of its
ladder of step shapes only those are kept that the batches here need.
"""

import math
import re
import tempfile
import time
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from journal import Case, Found
from llama import DEVIATION, LLAMA, TOY, TOY_WORKLOADS, WORKLOADS, name_of, prompts, write_config
from roofline import work_of
from timing import copy_rate, is_alive, is_gpu, matmul_rate

from jpaged import LLM, SamplingParams
from jpaged.layers.paged import KVPages
from jpaged.models.loading import AbstractModel
from jpaged.runner.letter import seal
from jpaged.runner.step_input import StepInput
from jpaged.scheduling.buckets import Bucket
from jpaged.weights.functional import Params
from pallas_kernels.paged_attention import explain

CONTEXT = 1024
STEPS = (32, 256, 128, 1)  # batches
SIZES = {"max_num_seqs": 256, "max_num_batched_tokens": 2048, "max_model_len": 2048}
NUM_PAGES = 17_500  # of 16 tokens: 256 sequences of 1,024 and some more
TOY_SIZES = {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 128}
KERNEL_CALLS = re.compile(r'custom_call_target="[^"]*(?:mosaic_gpu|triton_kernel)[^"]*"')
__all__ = ["cases", "is_alive"]


def cases(is_dry: bool) -> list[Case]:
    batches, context = ((2, 4), 32) if is_dry else (STEPS, CONTEXT)
    steps = [
        Case(
            f"decode step, batch {batch} x {context}",
            partial(decode_step, batch, context, is_dry),
            at_most=1.25 if batch >= 32 else None,
        )
        for batch in batches
    ]
    runs = [
        Case(name_of(workload), partial(offline, workload, is_dry))
        for workload in (TOY_WORKLOADS if is_dry else WORKLOADS)
    ]
    # a large and a small step, then the runs; what is left if there is time
    return [*steps[:2], *runs[:2], *steps[2:], *runs[2:]]


@cache
def engine(is_dry: bool) -> LLM:
    copy_rate(), matmul_rate()  # while the memory is still free
    sizes = TOY_SIZES | {"num_pages": 64} if is_dry else SIZES | {"num_pages": NUM_PAGES}
    ladder = {"SEQUENCES": (2, 32, 128), "TOKENS": (512,)}
    with ExitStack() as stack:
        folder = write_config(Path(stack.enter_context(tempfile.TemporaryDirectory())), is_dry)
        stack.enter_context(patch.multiple("jpaged.scheduling.buckets", **ladder))
        stack.enter_context(patch("jpaged.engine.build.load_params", random_params))
        llm = LLM(
            str(folder), skip_tokenizer_init=True, warmup="none", use_tqdm_on_load=False, **sizes
        )
    executor, fill = llm.llm_engine.executor, jax.jit(jnp.full_like, static_argnums=1)
    if is_gpu():  # one layer at a time: the old pages go when the new ones are there
        layers = list(executor.kv_pages)
        executor.kv_pages = ()
        for i in range(len(layers)):
            layers[i] = KVPages(*(fill(pages, 0.01) for pages in layers[i]))
        executor.kv_pages = tuple(layers)
    return llm


def random_params(folder: Path, model: AbstractModel, on_bytes=None) -> Params:
    """Normal weights, drawn where they are needed."""

    @partial(jax.jit, static_argnums=(1, 2))
    def draw(key, shape, dtype):
        return jnp.asarray(DEVIATION, dtype) * jax.random.normal(key, shape, dtype)

    leaves, tree = jax.tree.flatten(model.params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [draw(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.block_until_ready(tree.unflatten(drawn))


def decode_step(batch: int, context: int, is_dry: bool) -> Found:
    """One step, again and again: each takes the cache that the one before it has written."""
    parts = engine(is_dry).llm_engine
    executor = parts.executor
    bucket = executor.buckets.fit_shape(batch, batch, math.ceil(context / parts.sizes.page_size))
    letter = seal(decode_inputs(parts, bucket, batch, context))
    start = time.perf_counter()
    step = executor.compiled.step(bucket)
    compiled_in = time.perf_counter() - start
    previous = executor.program.no_tokens()

    def run(count: int) -> float:
        start, tokens = time.perf_counter(), previous
        for _ in range(count):
            pages, answer = step(executor.params, executor.kv_pages, tokens, letter)
            executor.kv_pages, tokens = pages, answer.tokens
        jax.block_until_ready((executor.kv_pages, tokens))
        return (time.perf_counter() - start) / count

    run(3)
    seconds = float(np.median([run(20 if is_gpu() else 2) for _ in range(5)]))
    bound = work_of(parts, ((1, context),) * batch).num_bytes / copy_rate()
    stats = step.memory_analysis()
    return Found(
        round(seconds / bound, 3),
        "x its roofline",
        share=round(bound / seconds, 3),
        of="copy bandwidth",
        note=f"bucket {bucket}",
        more={
            "ms": round(1e3 * seconds, 3),
            "roofline_ms": round(1e3 * bound, 3),
            "tokens_per_s": round(batch / seconds),
            "compiled_in_s": round(compiled_in, 1),
            "temporary_mb": round(getattr(stats, "temp_size_in_bytes", 0) / 1e6),
            "attention": " / ".join(explain(*_attention(is_dry), 16, "bfloat16")),
            "kernel_calls": len(KERNEL_CALLS.findall(step.as_text() or "")),
        },
    )


def _attention(is_dry: bool) -> tuple[int, int, int]:
    names = ("num_attention_heads", "num_key_value_heads", "head_dim")
    config = TOY if is_dry else LLAMA
    return tuple(config[name] for name in names)


def decode_inputs(parts, bucket: Bucket, batch: int, context: int) -> StepInput:
    """The last token of `batch` sequences of `context`, in scattered pages."""
    packer, S = parts.executor.program.packer, parts.sizes.page_size
    blank, used = packer.blank(bucket), math.ceil(context / S)
    order = np.random.default_rng(0).permutation(packer.num_pages)[: batch * used]
    table = blank.table
    table.pages[:batch, :used] = order.reshape(batch, used)
    table.positions[:batch] = context - 1
    table.lengths[:batch] = context
    offset = (context - 1) % S
    table.write_slots[:batch] = table.pages[:batch, used - 1] * S + offset
    starts = np.minimum(np.arange(bucket.num_sequences + 1), batch).astype(np.int32)
    rows = np.minimum(np.arange(bucket.num_sequences), batch - 1).astype(np.int32)
    table = table._replace(query_starts=starts)
    return blank._replace(table=table, sample_at=rows, num_sequences=np.int32(batch))


def offline(workload: tuple[int, int, int], is_dry: bool) -> Found:
    """All requests at once, as a user would: scheduling, packing and collecting included."""
    (count, inside, out), llm = workload, engine(is_dry)

    def run(seed: int, out: int) -> float:
        params = SamplingParams(temperature=0, max_tokens=out, ignore_eos=True, detokenize=False)
        # other tokens each time, or the cache would know their prefixes
        given = [[seed, *prompt[1:]] for prompt in prompts(count, inside, is_dry)]
        requests = [{"prompt_token_ids": prompt} for prompt in given]
        start = time.perf_counter()
        outputs = llm.generate(requests, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        counts = [len(output.outputs[0].token_ids) for output in outputs]
        assert counts == [out] * count, f"{counts} tokens, not {out} of each"
        return seconds

    run(3, 3)  # compiles
    seconds = float(np.median([run(4 + i, out) for i in range(1 if count > 100 else 2)]))
    parts = llm.llm_engine
    bound = work_of(parts, ((inside, inside),) * count).flops / matmul_rate()
    for done in range(1, out):
        bound += work_of(parts, ((1, inside + done),) * count).num_bytes / copy_rate()
    return Found(
        round(seconds, 3),
        "s",
        share=round(bound / seconds, 3),
        of="roofline",
        key=name_of(workload),
        more={"tokens_per_s": round(count * out / seconds, 1), "roofline_s": round(bound, 4)},
    )
