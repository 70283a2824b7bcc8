"""Writing keys and values into pages, each implementation, and moving pages."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from journal import Case, Found
from shapes import LLAMA, TOY
from timing import copy_rate, is_alive, is_gpu, seconds_of

from pallas_kernels import kv_write, page_copy

TOKENS = (1, 64, 256, 2048, 8192)
PAGES = ("bfloat16", "float8_e4m3fn")
S, POOL = 16, 400_000  # tokens
__all__ = ["cases", "is_alive"]


def cases(is_dry: bool) -> list[Case]:
    writes = [
        Case(f"{name}: {T} tokens into {pages}", partial(write, name, T, pages))
        for T in ((8,) if is_dry else TOKENS)
        for pages in PAGES
        for name in kv_write.IMPLEMENTATIONS
    ]
    moves = [Case(f"copy {count} pages of 32 layers", partial(copy, count)) for count in (1, 64)]
    return writes + (moves[:1] if is_dry else moves)


def write(implementation: str, T: int, dtype: str) -> Found:
    heads, num_tokens = (LLAMA, POOL) if is_gpu() else (TOY, 512)
    shape = (num_tokens // S, heads.K, S, heads.D)
    keys = jax.random.split(jax.random.key(0))
    k, v = (jax.random.normal(key, (T, heads.K, heads.D), jnp.bfloat16) for key in keys)
    rng = np.random.default_rng(0)
    # other slots at each step: what was written before is not in the cache
    rotation = [jnp.asarray(rng.permutation(num_tokens)[:T], jnp.int32) for _ in range(8)]
    chosen = implementation if is_gpu() else "reference"

    def step(pages, slots, k, v):
        return kv_write.write(k, v, *pages, slots, implementation=chosen)

    pages = jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)
    seconds = seconds_of(step, pages, rotation, (k, v), length=8, donates=True)
    moved = 2 * k.size * (2 + jnp.dtype(dtype).itemsize)
    note = "" if is_gpu() or chosen == implementation else "no GPU: the reference in its place"
    return _found(moved, seconds, f"write {T} into {dtype}", note)


def copy(count: int) -> Found:
    heads, num_layers, num_tokens = (LLAMA, 32, 16384) if is_gpu() else (TOY, 2, 512)
    shape = (num_tokens // S, heads.K, S, heads.D)
    pools = [jnp.zeros(shape, jnp.bfloat16) for _ in range(2 * num_layers)]
    moved = 2 * count * len(pools) * pools[0][0].nbytes
    chosen = np.random.default_rng(0).permutation(len(pools[0]))[: 2 * count]
    sources, targets = map(jnp.asarray, np.split(chosen, 2))
    step = page_copy.copy_pages
    seconds = seconds_of(step, pools, [sources], (targets,), length=4, donates=True)
    return _found(moved, seconds, "", "")


def _found(moved: int, seconds: float, key: str, note: str) -> Found:
    share = round(moved / seconds / copy_rate(), 3)
    more = {"gb_per_s": round(moved / seconds / 1e9, 1)}
    us = round(1e6 * seconds, 2)
    return Found(us, "us", share=share, of="copy bandwidth", key=key, note=note, more=more)
