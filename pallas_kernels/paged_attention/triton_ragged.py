"""Ragged paged attention in Triton: any mix of prompts, chunks and single tokens, in one launch.

One source serves every NVIDIA GPU since Ampere; what differs between them is a small table of
tile sizes.  See `triton_ragged_kernel.py` for how it works.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Num

from pallas_kernels import gpu, triton_call
from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.query_tiles import query_tiles

MOST_DIM = 256
MOST_GROUP = 64
# TF32 three times over needs registers: more spills
MOST_DIM_FLOAT32 = 128
MOST_ROWS_FLOAT32 = 32
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
    if compute_capability < gpu.OLDEST:
        major, minor = compute_capability
        return f"the triton kernel needs sm_80 or newer, not sm_{major}{minor}"
    if q.dtype.name not in QUERIES:
        return f"the triton kernel takes queries in {', '.join(QUERIES)}, not {q.dtype.name}"
    if k_pages.dtype.name not in PAGES:
        return f"the triton kernel reads pages in {', '.join(PAGES)}, not {k_pages.dtype.name}"
    is_float32 = q.dtype == jnp.float32
    most = MOST_DIM_FLOAT32 if is_float32 else MOST_DIM
    if D % 8 or D > most:
        return f"the triton kernel takes {q.dtype} head dims in multiples of 8 to {most}, not {D}"
    most = MOST_ROWS_FLOAT32 if is_float32 else MOST_GROUP
    if H > most * K:
        return f"the triton kernel takes {most} {q.dtype} heads a kv head, not {H} over {K}"
    return None


def tiling(
    num_rows: int, D: int, queries: str, pages: str, compute_capability: tuple[int, int]
) -> Tiling:
    """How tiles of `num_rows` rows, or of as many as is good, are best worked on.

    The accumulator, rows · D float32, is in registers; shared memory holds keys and values of two
    tiles, 4 · keys · D elements, and on Hopper the queries.  With triton 3.7 to 3.9 none spills:

        rows x keys, warps        D <= 128         D <= 256
        sm_80                     128 x 64, 8      64 x 32, 8      keys of 8 bits: 32
        99 KiB (sm_86, 89, 12x)   128 x 32, 8      64 x 32, 8
        sm_90, sm_10x             128 x 64, 8      128 x 32, 8
        float32                   32 x 32, 4       refused         three products in TF32 each
        single tokens             G x 64, 4        G x 32, 4       wait for memory: many at once
    """
    is_wide, is_small = D > 128, jnp.dtype(pages).itemsize == 1
    major = compute_capability[0]
    if queries == "float32":
        return Tiling(min(max(16, num_rows), MOST_ROWS_FLOAT32), 32, 4, 2)
    if num_rows <= 32:
        return Tiling(max(16, num_rows), 32 if is_wide else 64, 4, 3)
    if major in (9, 10):
        return Tiling(128, 32 if is_wide else 64, 8, 3)
    if is_wide:
        return Tiling(64, 32, 8, 2)
    is_large = compute_capability in ((8, 0), (8, 7))
    return Tiling(128, 64 if is_large and not is_small else 32, 8, 3)


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
    capability = gpu.compute_capability()
    rows = _rows(T, table.lengths.shape[0], H // K)
    sizes = tiling(rows, D, q.dtype.name, k_pages.dtype.name, capability)
    tiles = query_tiles(table, sizes.rows // (H // K), least_queries)
    out, lse = triton_call.launch(
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
