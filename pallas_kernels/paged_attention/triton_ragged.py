"""Ragged paged attention in Triton: any mix of prompts, chunks and single tokens, in one launch.

One source serves every NVIDIA GPU since Ampere; what differs between them is a small table of
tile sizes.  See `triton_ragged_kernel.py` for how it works.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Num

from pallas_kernels import triton_call
from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.query_tiles import query_tiles

MOST_DIM = 256
MOST_GROUP = 64
QUERIES = ("bfloat16", "float16", "float32")
PAGES = (*QUERIES, "float8_e4m3fn", "float8_e5m2", "int8")


class Tiling(NamedTuple):
    """Rows of queries and keys a tile has, and how Triton runs its loop."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


def why_not(q: Array, k_pages: Array, compute_capability: tuple[int, int]) -> str | None:
    """Why this kernel cannot serve such queries and pages on such a GPU, or None if it can."""
    T, H, D = q.shape
    K = k_pages.shape[1]
    if reason := triton_call.why_not():
        return reason
    if compute_capability < (8, 0):
        major, minor = compute_capability
        return f"the triton kernel needs sm_80 or newer, not sm_{major}{minor}"
    if q.dtype.name not in QUERIES:
        return f"the triton kernel takes queries in {', '.join(QUERIES)}, not {q.dtype.name}"
    if k_pages.dtype.name not in PAGES:
        return f"the triton kernel reads pages in {', '.join(PAGES)}, not {k_pages.dtype.name}"
    if D % 8 or D > MOST_DIM:
        return f"the triton kernel takes head dims in multiples of 8 up to {MOST_DIM}, not {D}"
    if H > MOST_GROUP * K:
        return f"the triton kernel takes {MOST_GROUP} query heads a kv head, not {H} over {K}"
    return None


def tiling(num_rows: int, D: int, dtype: str, capability: tuple[int, int]) -> Tiling:
    """How `num_rows` rows a tile, or as many as is good, are best worked on.

    The accumulator is rows · D float32 in registers; the keys and values of num_stages tiles are
    in shared memory, 2 · keys · D · itemsize bytes each.
    """
    wide = D > 128
    if num_rows <= 32:  # single tokens: all waits for memory, so more tiles are under way
        return Tiling(max(16, num_rows), 32 if wide else 64, 4, 2 if capability == (8, 9) else 3)
    if dtype == "float32":  # three products in TF32 each, and elements twice as large
        return Tiling(64, 16 if wide else 32, 8 if wide else 4, 2)
    if capability == (8, 9):  # 99 KiB of shared memory
        return Tiling(128, 32, 8, 2 if wide else 3)
    if capability >= (9, 0):
        return Tiling(128, 64, 8, 2 if wide else 3)
    return Tiling(128, 32 if wide else 64, 8, 2 if wide else 3)


def ragged(
    q: Float[Array, "T H D"],
    k_pages: Num[Array, "P K S D"],
    v_pages: Num[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    alibi: Float[Array, " H"] | None = None,
    causal: bool = True,
    least_queries: int = 1,
) -> tuple[Float[Array, "T H D"], Float[Array, "T H"]]:
    """Attention of each query over its sequence's pages, and the logarithm of its softmax's sum.

    The keys are in the pages already.  A query sees those up to its own position, or all of its
    row's `lengths` where not `causal`; with a window, only those less than `window` before it.
    `alibi` adds slope · (key's position - query's) to a score, after the softcap.  Queries that see
    nothing, padding and sequences of fewer than `least_queries` come back as zeros and -inf.
    """
    from pallas_kernels.paged_attention.triton_ragged_kernel import attend

    T, H, D = q.shape
    K, S = k_pages.shape[1:3]
    capability = triton_call.compute_capability()
    sizes = tiling(_rows(T, table.lengths.shape[0], H // K), D, q.dtype.name, capability)
    tiles = query_tiles(table, sizes.rows // (H // K), least_queries)
    out, lse = triton_call.triton_call(
        attend,
        q,
        *(_readable(pages, capability) for pages in (k_pages, v_pages)),
        table.pages,
        table.positions,
        tiles,
        tiles if alibi is None else alibi.astype(jnp.float32),  # some pointer, never read
        table.pages.shape[1],
        outputs=(
            jax.ShapeDtypeStruct(q.shape, q.dtype),
            jax.ShapeDtypeStruct((T, H), jnp.float32),
        ),
        grid=(tiles.shape[0], K),
        compute_capability=capability,
        num_warps=sizes.num_warps,
        num_stages=sizes.num_stages,
        K=K,
        G=H // K,
        D=D,
        S=S,
        ROWS=sizes.rows,
        KEYS=sizes.keys,
        DIMS=max(16, _power_of_two(D)),
        SCALE=float(scale),
        WINDOW=window or 0,
        SOFTCAP=float(softcap or 0),
        HAS_ALIBI=alibi is not None,
        CAUSAL=causal,
        PRECISION="tf32x3" if q.dtype == jnp.float32 else "tf32",
    )
    return out, lse


def _rows(num_tokens: int, num_sequences: int, group: int) -> int:
    """A row for each of a token's heads where sequences have one token, else as many as fit."""
    return _power_of_two(group) if num_tokens == num_sequences else 128


def _power_of_two(number: int) -> int:
    """The smallest that is not below."""
    return 1 << (number - 1).bit_length()


def _readable(pages: Num[Array, "P K S D"], capability: tuple[int, int]) -> Num[Array, "P K S D"]:
    """Before sm_89 Triton knows no float8_e4m3fn: the kernel takes its bits."""
    if pages.dtype == jnp.float8_e4m3fn and capability < (8, 9):
        return jax.lax.bitcast_convert_type(pages, jnp.uint8)
    return pages
