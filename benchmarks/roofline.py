"""How near a step comes to what the machine could do: bytes and FLOPs against its rates.

    python benchmarks/roofline.py MODEL
    python benchmarks/roofline.py MODEL --buckets 32,32,64 512,8,64

A step has to read the weights and the cache and to multiply; the larger of the two times, at the
rates the machine shows here and now, bounds it from below.  A bucket with T == B is full of
decoding sequences of `--context` tokens, one with more tokens of prompts of that length.  Rates and
steps are measured in turn, round after round, and the medians compared.

XLA's own count (`cost_analysis`) is printed beside, as far as it goes.  Products and attention are
C++ kernels, in which it sees neither FLOPs nor bytes; of the rest it counts every array that an
operation takes or gives, and of the embedding the whole table.
"""

import argparse
import json
import math
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from machine import describe, foreign_load
from steps import PreparedStep, add_prompts, an_engine, seconds_of, take_decode, take_step

from jpaged import LLMEngine
from jpaged.scheduling.buckets import Bucket
from jpaged.weights.functional import num_bytes, num_parameters
from pallas_kernels.packed_matmul import pack, packed_matmuls

SHAPES = ((2, 2), (32, 32), (64, 64), (256, 1), (2048, 8))  # tokens, sequences
ROUNDS = 5
READ_BYTES = 512 << 20  # many times the caches
ROWS, WIDTH = 2048, 2048  # of the product whose rate is measured


@dataclass(frozen=True)
class Work:
    """What a step cannot do without."""

    num_bytes: int
    flops: int


def work_of(engine: LLMEngine, spans: tuple[tuple[int, int], ...]) -> Work:
    """Bytes and FLOPs of sequences that run `count` tokens and then have `length` in the cache.

    Weights are read once, but of the embedding only the tokens' rows; so are the keys and values
    of each sequence, and the step's own are written.  Logits are written once and read once.
    Norms, rotations and whatever lies between two products are left out: it fits the caches.
    """
    model = engine.model
    blocks, table = model.params["blocks"], model.params["embed"]["weight"]
    head = model.params.get("head", {"weight": table})["weight"]
    num_tokens = sum(count for count, _ in spans)
    width, size = table.shape[1], model.dtype.itemsize
    matrices = sum(leaf.size for leaf in jax.tree.leaves(blocks) if len(leaf.shape) == 2)
    per_token = sum(spec.bytes_per_token(model.dtype) for spec in model.kv_spec)
    seen = sum(count * length - count * (count - 1) // 2 for count, length in spans)
    per_pair = sum(4 * model.config.heads * spec.head_dim for spec in model.kv_spec)
    logits = len(spans) * model.vocab
    return Work(
        num_bytes=num_bytes(blocks)
        + size * (head.size + num_tokens * width)
        + per_token * (sum(length for _, length in spans) + num_tokens)
        + 2 * 4 * logits,
        flops=2 * num_tokens * matrices + 2 * width * logits + per_pair * seen,
    )


class Machine:
    """What the machine can do, by ways that leave little in its way."""

    def __init__(self, dtype: jnp.dtype):
        cores = len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(cores)
        numbers = np.ones(READ_BYTES // 4, np.float32)
        self._numbers = [np.array_split(part, 2) for part in np.array_split(numbers, cores)]
        self._copied = [np.empty_like(left) for left, _ in self._numbers]
        self._x = jnp.ones((ROWS, WIDTH), dtype)
        self._words = jax.jit(pack)(jnp.ones((WIDTH, WIDTH), dtype))
        self._product = jax.jit(lambda x, words: packed_matmuls(x, (words,), (WIDTH,))[0])

    def read(self) -> float:
        """Bytes a second, read by all cores: products of two vectors."""

        def run():
            list(self._threads.map(lambda pair: np.dot(pair[0], pair[1][: len(pair[0])]), pairs))

        pairs = [(left[: len(right)], right) for left, right in self._numbers]
        return sum(2 * right.nbytes for _, right in pairs) / seconds_of(run)

    def copy(self) -> float:
        """Bytes a second, read and written."""

        def run():
            list(self._threads.map(lambda pair: np.copyto(*pair), pairs))

        pairs = [(to, left) for to, (left, _) in zip(self._copied, self._numbers, strict=True)]
        return sum(2 * to.nbytes for to, _ in pairs) / seconds_of(run)

    def multiply(self) -> float:
        """FLOPs a second of the engine's own kernel at many rows."""
        run = lambda: self._product(self._x, self._words).block_until_ready()  # noqa: E731
        return 2 * ROWS * WIDTH * WIDTH / seconds_of(run)


def prepare(engine: LLMEngine, bucket: Bucket, num_sequences: int, context: int) -> PreparedStep:
    """A step that fills the bucket; one of prompts has as many as hold `context` tokens each."""
    if bucket.is_decode:
        add_prompts(engine, num_sequences, context)
        step = take_decode(engine, num_sequences, bucket)
    else:
        add_prompts(engine, num_sequences, bucket.num_tokens // num_sequences)
        step = take_step(engine, bucket)
    for sequence in engine.scheduler.running:
        engine.scheduler.abort(sequence.request.id)
    return step


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a checkpoint folder, or demo")
    parser.add_argument("--buckets", nargs="+", metavar="T,B,N", type=parse_bucket)
    parser.add_argument("--context", type=int, default=256, help="tokens in the cache, or prompt")
    return parser.parse_args()


def parse_bucket(text: str) -> Bucket:
    return Bucket(*map(int, text.split(",")))


def build(args: argparse.Namespace) -> LLMEngine:
    buckets = args.buckets or []
    return an_engine(
        args.model,
        num_pages=2 * max([64, *(b.num_sequences for b in buckets)]) * -(-args.context // 16) + 512,
        max_num_seqs=max([128, *(b.num_sequences for b in buckets)]),
        max_num_batched_tokens=max([2048, *(b.num_tokens for b in buckets)]),
    )


def _prompts(bucket: Bucket, context: int) -> int:
    return max(1, bucket.num_tokens // context)


def prepare_all(engine: LLMEngine, args: argparse.Namespace) -> list[PreparedStep]:
    if args.buckets:
        chosen = [
            (b, min(b.num_sequences, b.num_tokens if b.is_decode else _prompts(b, args.context)))
            for b in args.buckets
        ]
    else:
        ladder = engine.executor.buckets
        chosen = [(ladder.fit_shape(tokens, rows, 1), rows) for tokens, rows in SHAPES]
    return [prepare(engine, bucket, rows, args.context) for bucket, rows in chosen]


def measure(engine: LLMEngine, steps: list[PreparedStep]) -> tuple[dict, list[float]]:
    """Rates of the machine and seconds of the steps: the medians of all rounds."""
    machine = Machine(engine.model.dtype)
    rates: dict[str, list[float]] = {"read": [], "copy": [], "multiply": []}
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS):
        for name, found in rates.items():
            found.append(getattr(machine, name)())
        for step, found in zip(steps, times, strict=True):
            found.append(seconds_of(step.run))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return medians, [statistics.median(found) for found in times]


def row_of(step: PreparedStep, seconds: float, rates: dict) -> dict:
    work = work_of(step.engine, step.spans)
    counted = step.compiled.cost_analysis() or {}
    limits = {"bytes": work.num_bytes / rates["read"], "flops": work.flops / rates["multiply"]}
    bound = max(limits, key=lambda name: limits[name])
    return {
        "bucket": str(step.bucket),
        "num_tokens": sum(count for count, _ in step.spans),
        "num_sequences": len(step.spans),
        "longest": max(length for _, length in step.spans),
        "mbytes": round(work.num_bytes / 1e6, 1),
        "xla_mbytes": round(counted.get("bytes accessed", math.nan) / 1e6, 1),
        "gflops": round(work.flops / 1e9, 2),
        "xla_gflops": round(counted.get("flops", math.nan) / 1e9, 2),
        "ms_for_bytes": round(1e3 * limits["bytes"], 3),
        "ms_for_flops": round(1e3 * limits["flops"], 3),
        "bound": bound,
        "ms": round(1e3 * seconds, 3),
        "share": round(limits[bound] / seconds, 3),
    }


def as_markdown(rows: list[dict]) -> str:
    lines = [
        "| bucket | tokens | sequences, longest | MB | by XLA | GFLOP | by XLA "
        "| ms for bytes | ms for FLOPs | ms | of the bound |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['bucket']} | {row['num_tokens']} | {row['num_sequences']}, "
            f"{row['longest']} | {row['mbytes']:.0f} | {row['xla_mbytes']:.0f} | "
            f"{row['gflops']:.2f} | {row['xla_gflops']:.2f} | {row['ms_for_bytes']:.2f} | "
            f"{row['ms_for_flops']:.2f} | {row['ms']:.2f} | {row['share']:.0%} ({row['bound']}) |"
        )
    return "\n".join(lines)


def main() -> None:
    args = parse_arguments()
    load = foreign_load()
    engine = build(args)
    steps = prepare_all(engine, args)
    rates, seconds = measure(engine, steps)
    rows = [row_of(step, each, rates) for step, each in zip(steps, seconds, strict=True)]
    report = {
        "machine": describe(),
        "model": Path(args.model).name,
        "parameters": num_parameters(engine.model.params),
        "foreign_load": {"before": load, "after": foreign_load()},
        "rates": {
            "read_gb_s": round(rates["read"] / 1e9, 1),
            "copy_gb_s": round(rates["copy"] / 1e9, 1),
            f"{engine.model.dtype.name}_gflop_s": round(rates["multiply"] / 1e9, 1),
        },
        "rows": rows,
    }
    print(as_markdown(rows))
    print("\nrates:", ", ".join(f"{name} {value}" for name, value in report["rates"].items()))
    print("The C++ kernels are invisible to XLA's count.")
    path = Path(__file__).parent / "results" / "roofline.json"
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
