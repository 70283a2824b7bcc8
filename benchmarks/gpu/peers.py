"""JAX's own paged attention for GPUs, on the batches of `decode.py`.

It is deprecated, and is given the layout it wants, [K, P, S, D], and the better of two splits.
"""

import warnings
from functools import partial

import jax.numpy as jnp
from decode import POOL
from journal import Case, Found
from shapes import LLAMA, TOY, Decode, Heads, page_lists, pages_for, pool, queries
from timing import copy_rate, is_alive, is_gpu, seconds_of, turns

SHAPES = (
    Decode(64, 1024),
    Decode(64, 4096),
    Decode(256, 1024),
    Decode(128, 2048, is_skewed=True),
    Decode(1, 32768),
)
__all__ = ["cases", "is_alive"]


def cases(is_dry: bool) -> list[Case]:
    heads = TOY if is_dry else LLAMA
    return [
        Case(f"jax's: {shape.name}", partial(measure, shape, heads))
        for shape in ((Decode(2, 64),) if is_dry else SHAPES)
    ]


def measure(shape: Decode, heads: Heads) -> Found:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from jax.experimental.pallas.ops.gpu.paged_attention import paged_attention

    S, lengths = shape.page_size, jnp.asarray(shape.lengths())
    pages = pool(pages_for(POOL, S) if is_gpu() else 1024, S, heads)
    k_pages, v_pages = (each.swapaxes(0, 1) for each in pages)
    rotation = page_lists(shape.lengths(), S, k_pages.shape[1], turns(shape.num_bytes(heads)))
    # it takes whole compute blocks of 8 pages, for each split
    rotation = [jnp.pad(each, ((0, 0), (0, -each.shape[1] % 128))) for each in rotation]
    q = queries(shape.batch, heads)

    def seconds(splits: int) -> float:
        def step(q, pages, lengths, k_pages, v_pages):
            return paged_attention(
                *(q * heads.scale, k_pages, v_pages, pages, lengths),
                k_splits=splits,
                interpret=not is_gpu(),
            )

        shared = (lengths, k_pages, v_pages)
        return seconds_of(step, q, rotation, shared, length=len(rotation))

    found = {splits: seconds(splits) for splits in ((1, 16) if is_gpu() else (1,))}
    splits = min(found, key=lambda each: found[each])
    rate = shape.num_bytes(heads) / found[splits]
    return Found(
        round(1e6 * found[splits], 2),
        "us",
        share=round(rate / copy_rate(), 3),
        of="copy bandwidth",
        key=shape.name,
        note=f"k_splits={splits}" + ("" if is_gpu() else ", in the interpreter"),
    )
