"""Seconds of a step on the device, and the rates that they are compared with.

Steps are chained: each takes what the one before it gave, so that none can overlap another or be
left out, and the host waits once, at the end of many.  Short steps are chained inside one program,
because a program costs the host more than they cost the device.  Where a step reads less than the
L2 cache holds, the steps of a chain take turns with different data.  Nothing is subtracted.  What
depends on the page table alone, XLA computes once a chain, as once for all layers of a model.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

REPEATS = 5
CACHE = 50 << 20  # bytes of an H200's L2 cache; 3 times as much between two uses is cold


def is_gpu() -> bool:
    return jax.default_backend() == "gpu"


def turns(bytes_a_step: int, most: int = 64) -> int:
    """How many different sets of data steps must take turns with, for the cache to be cold."""
    return max(1, min(most, math.ceil(3 * CACHE / bytes_a_step))) if is_gpu() else 2


def chain(step: Callable, length: int, donates: bool = False) -> Callable:
    """A program of `length` steps: state, rotation, shared -> state."""
    inner = jax.jit(step)  # traced and lowered once, however long the chain

    def run(state: Any, rotation: Sequence, shared: tuple) -> Any:
        for i in range(length):
            state = inner(state, rotation[i % len(rotation)], *shared)
        return state

    return jax.jit(run, donate_argnums=0 if donates else ())


def seconds_of(
    step: Callable,
    state: Any,
    rotation: Sequence,
    shared: tuple = (),
    *,
    length: int = 1,
    donates: bool = False,
) -> float:
    """The median, over some repeats, of the time of one step: `state = step(state, own, *shared)`.

    rotation: what steps take turns with, `own` of each.
    """
    program = chain(step, length, donates)
    state = jax.block_until_ready(program(state, rotation, shared))  # compiles
    start = time.perf_counter()
    state = jax.block_until_ready(program(state, rotation, shared))
    once = time.perf_counter() - start
    calls = max(1, math.ceil((0.06 if is_gpu() else 0.002) / once))
    times = []
    for _ in range(REPEATS if is_gpu() else 2):
        start = time.perf_counter()
        for _ in range(calls):
            state = program(state, rotation, shared)
        jax.block_until_ready(state)
        times.append((time.perf_counter() - start) / (calls * length))
    return statistics.median(times)


@cache
def copy_rate() -> float:
    """Bytes a second, read and written: the better of the copy engine's way and a kernel's."""
    words = (512 << 20) if is_gpu() else (1 << 18)
    x = jnp.arange(words, dtype=jnp.uint32)
    ways = (lambda x, _: jnp.copy(x), lambda x, _: x + jnp.uint32(1))
    best = min(seconds_of(step, x, [()]) for step in ways)
    return 2 * x.nbytes / best


@cache
def matmul_rate() -> float:
    """FLOPs a second of XLA's own product of large bf16 matrices."""
    n = 8192 if is_gpu() else 256
    keys = jax.random.split(jax.random.key(0))
    # random, for zeros draw less power; scaled, for a product of many must stay finite
    x, w = (jax.random.normal(key, (n, n), jnp.bfloat16) for key in keys)
    w = w / jnp.bfloat16(math.sqrt(n))
    return 2 * n**3 / seconds_of(jnp.matmul, x, [w])


def is_alive() -> None:
    """Raises if the device has stopped to answer."""
    jax.block_until_ready(jnp.ones(8) + 1)
