"""Attention of prompts over scattered pages on Hopper, in Pallas's Mosaic GPU dialect.

The running softmax of FlashAttention (Dao et al., 2022), with the division of labour of
FlashAttention-3 (Shah et al., 2024): TMA copies pages, one each, into swizzled shared memory,
wgmma multiplies, and two warpgroups take turns.  A block has a tile of 128 rows: tokens of one
sequence, times heads that share a kv head, as with four of these:

    warpgroup 0   [head 0: 32 tokens][head 1: the same tokens]
    warpgroup 1   [head 2: ...      ][head 3: ...            ]

See `prefill_kernel` for how it works; `triton_ragged` serves where this one cannot.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Float

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.aligned_tiles import (
    ALIGNMENT,
    aligned_tiles,
    places_of_tokens,
)
from pallas_kernels.paged_attention.prefill_kernel import run_block
from pallas_kernels.paged_attention.prefill_work import ROWS, Plan

DIMS = (64, 80, 96, 128, 256)
PAGE_SIZES = (8, 16, 32, 64, 128)
TYPES = ("bfloat16", "float16")


def why_not(q: Array, k_pages: Array, compute_capability: tuple[int, int]) -> str | None:
    """Why these shapes and types cannot be served on that GPU, or None if they can."""
    H, D = q.shape[-2:]
    K, S = k_pages.shape[1:3]
    if compute_capability != (9, 0):
        major, minor = compute_capability
        return (
            f"mosaic prefill multiplies with wgmma, which sm_90 has and sm_{major}{minor} has not"
        )
    if q.dtype.name not in TYPES or k_pages.dtype != q.dtype:
        return (
            f"mosaic prefill multiplies pages as they are, with queries of the same type, "
            f"{' or '.join(TYPES)}, not {q.dtype} over {k_pages.dtype}"
        )
    if D not in DIMS or S not in PAGE_SIZES or H % K:
        return (
            f"mosaic prefill has head_dim in {DIMS}, page_size in {PAGE_SIZES} and groups of "
            f"query heads, not head_dim {D}, page_size {S} and {H} heads over {K}"
        )
    return None


def prefill(
    q: Float[Array, "T H D"],
    k_pages: Float[Array, "P K S D"],
    v_pages: Float[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    alibi: Float[Array, " H"] | None = None,
    causal: bool = True,
    least_queries: int = 1,
    interpret: plgpu.InterpretGPUParams | None = None,
) -> tuple[Float[Array, "T H D"], Float[Array, "T H"]]:
    """Attention of each query over its sequence's pages, and the logarithm of its softmax's sum.

    The keys are in the pages already.  A query sees those up to its own position, or all of its
    row's `lengths` where not `causal`; with a window, only those less than `window` before it.
    `alibi` adds slope · (key's position - query's) to a score, after the softcap.  Queries that see
    nothing, padding and sequences of fewer than `least_queries` come back as zeros and -inf.
    """
    if reason := why_not(q, k_pages, (9, 0)):
        raise NotImplementedError(reason)
    assert scale > 0, f"a scale of {scale} turns the largest score into the smallest"
    T, H, D = q.shape
    K, S = k_pages.shape[1:3]
    options = (scale, window, softcap, alibi is not None, causal)
    plan = Plan(H // K, D, S, q.dtype, *options, is_interpreted=interpret is not None)
    tiles = aligned_tiles(table, plan.tokens, least_queries)
    num_tiles = tiles.start.shape[0]
    # whole tiles of the copy engine, which itself takes care of what is missing of a box
    padded = jnp.pad(q, ((0, -T % ALIGNMENT), (0, 0), (0, 0))) if T % ALIGNMENT else q
    out, lse = plgpu.kernel(
        partial(run_block, plan),
        out_type=[
            jax.ShapeDtypeStruct(padded.shape, q.dtype),
            jax.ShapeDtypeStruct((num_tiles, H // plan.heads, ROWS), jnp.float32),
        ],
        scratch_types=plan.scratch(),
        grid=(H // plan.heads, num_tiles),
        grid_names=("heads", "tile"),
        num_threads=3,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(
            approx_math=True,
            # the layouts in shared memory are ours: inference finds none for `Refs.rows`
            lowering_semantics=plgpu.LoweringSemantics.Lane,
        ),
        interpret=interpret,
    )(
        padded,
        k_pages,
        v_pages,
        table.pages,
        jnp.stack(tiles, axis=1).astype(jnp.int32),
        jnp.zeros(H, jnp.float32) if alibi is None else alibi.astype(jnp.float32),
    )
    tile, place = places_of_tokens(table, plan.tokens)
    lse = lse.reshape(num_tiles, H, plan.tokens)[tile, :, place]
    out = out[:T]
    if least_queries == 1:
        return out, lse
    is_served = (tiles.begin < tiles.end)[tile]
    return jnp.where(is_served[:, None, None], out, 0), jnp.where(is_served[:, None], lse, -jnp.inf)
