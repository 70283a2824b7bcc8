"""Paged attention in plain XLA: it *defines* what is right, and serves where no kernel does.

Queries are cut into tiles that never cross a sequence, so that prompts, chunks and single tokens
are the same work:

    tokens   a a a a a a | b | c c c          tile size 4
    tiles    [a a a a] [a a · ·] [b · · ·] [c c c ·]

All tiles walk their sequence's pages together, a chunk of pages at a time, and keep a running
softmax (Milakov and Gimelshein, 2018).  The walk is as long as the longest sequence in the step,
not as the table, so empty columns of the table cost nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from pallas_kernels.page_table import PageTable

TILE = 16  # queries a tile, where sequences have more than one
CHUNK = 128  # keys visited at a time
MASKED = -1e30  # finite: (-inf) - (-inf) would be NaN in a row that is masked throughout


class Tiles(NamedTuple):
    """M tiles of C queries.  `token` is T where a tile's place is empty."""

    sequence: Int[Array, " M"]
    token: Int[Array, "M C"]


def cut_into_tiles(query_starts: Int[Array, " _"], num_tokens: int, size: int) -> Tiles:
    """Cuts each sequence's queries into tiles of `size`; there are T // size + B at most.

    query_starts: i32[B + 1], which jaxtyping cannot check in an argument while B is unknown.
    """
    num_sequences = query_starts.shape[0] - 1
    num_tiles = num_tokens // size + num_sequences if size > 1 else num_tokens
    num_queries = jnp.diff(query_starts)
    first_tile = jnp.cumulative_sum(-(-num_queries // size), include_initial=True)
    tile = jnp.arange(num_tiles)
    sequence = jnp.searchsorted(first_tile, tile, side="right") - 1
    sequence = jnp.minimum(sequence, num_sequences - 1)  # the empty tiles at the end
    offset = (tile - first_tile[sequence])[:, None] * size + jnp.arange(size)
    is_real = offset < num_queries[sequence][:, None]
    return Tiles(sequence, jnp.where(is_real, query_starts[sequence][:, None] + offset, num_tokens))


def visible(
    q_positions: Int[Array, "M C"], k_positions: Int[Array, " L"], window: int | None
) -> Bool[Array, "M C L"]:
    """Which keys a query may see: none after it, and none `window` or more before it."""
    q, k = q_positions[:, :, None], k_positions[None, None, :]
    seen = k <= q
    return seen if window is None else seen & (k > q - window)


def write(
    new: Float[Array, "T K D"], pages: Float[Array, "P K S D"], table: PageTable
) -> Float[Array, "P K S D"]:
    """Puts each token's keys, or values, into its slot."""
    S = pages.shape[2]
    # padding writes past the end, and mode="drop" discards it
    page, offset = table.write_slots // S, table.write_slots % S
    return pages.at[page, :, offset].set(new.astype(pages.dtype), mode="drop")


def attend(
    q: Float[Array, "T H D"],
    k_pages: Float[Array, "P K S D"],
    v_pages: Float[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
) -> Float[Array, "T H D"]:
    """See `write_and_attend`.  Scores, softmax and sums are float32."""
    T, H, D = q.shape
    K, S = k_pages.shape[1:3]
    B = table.lengths.shape[0]
    tiles = cut_into_tiles(table.query_starts, T, size=1 if T == B else TILE)
    M, C = tiles.token.shape

    q_tiles = q.at[tiles.token].get(mode="fill", fill_value=0)
    q_tiles = q_tiles.astype(jnp.float32).reshape(M, C, K, H // K, D)
    # an empty place sees nothing: its position is before the first key
    q_positions = table.positions.at[tiles.token].get(mode="fill", fill_value=-1)
    pages_per_chunk = max(1, CHUNK // S)
    pages = _pad_columns(table.pages, pages_per_chunk)
    lengths = table.lengths[tiles.sequence]

    def visit(chunk, state):
        peak, total, acc = state
        columns = lax.dynamic_slice_in_dim(pages, chunk * pages_per_chunk, pages_per_chunk, 1)
        mine = columns[tiles.sequence]
        k, v = _gather(k_pages, mine), _gather(v_pages, mine)  # [M, K, L, D]
        k_positions = chunk * pages_per_chunk * S + jnp.arange(k.shape[2])
        # a page's unwritten tail may hold anything, NaN too, and 0 · NaN is NaN
        v = jnp.where((k_positions < lengths[:, None])[:, None, :, None], v, 0)
        scores = jnp.einsum("MCKGD,MKLD->MCKGL", q_tiles, k)
        scores = _capped(scores * scale, softcap)
        seen = visible(q_positions, k_positions, window)[:, :, None, None, :]
        scores = jnp.where(seen, scores, MASKED)
        new_peak = jnp.maximum(peak, scores.max(-1, keepdims=True))
        p = jnp.where(seen, jnp.exp(scores - new_peak), 0)
        shrink = jnp.exp(peak - new_peak)
        weighted = jnp.einsum("MCKGL,MKLD->MCKGD", p, v)
        return new_peak, total * shrink + p.sum(-1, keepdims=True), acc * shrink + weighted

    shape = (M, C, K, H // K, 1)
    peak = jnp.full(shape, MASKED) if sinks is None else _per_head(sinks, shape)
    total = jnp.zeros(shape) if sinks is None else jnp.ones(shape)
    num_chunks = -(-table.lengths.max() // (pages_per_chunk * S))
    state = (peak, total, jnp.zeros((*shape[:-1], D)))
    _, total, acc = lax.fori_loop(0, num_chunks, visit, state)
    out = (acc / jnp.maximum(total, 1e-30)).astype(q.dtype).reshape(M, C, H, D)
    return jnp.zeros_like(q).at[tiles.token].set(out, mode="drop")


def _pad_columns(pages: Int[Array, "B N"], multiple: int) -> Int[Array, "B M"]:
    """A width that is no multiple would make `dynamic_slice` clamp in silence."""
    return jnp.pad(pages, ((0, 0), (0, -pages.shape[1] % multiple)))


def _gather(kv: Float[Array, "P K S D"], pages: Int[Array, "M n"]) -> Float[Array, "M K L D"]:
    """In float32: XLA:CPU has no product of bf16 into float32 with two batch axes."""
    M, n = pages.shape
    K, S, D = kv.shape[1:]
    return kv[pages].astype(jnp.float32).transpose(0, 2, 1, 3, 4).reshape(M, K, n * S, D)


def _capped(scores: jax.Array, softcap: float | None) -> jax.Array:
    return scores if softcap is None else softcap * jnp.tanh(scores / softcap)


def _per_head(sinks: Float[Array, " H"], shape: tuple[int, ...]) -> jax.Array:
    K, G = shape[2:4]
    return jnp.broadcast_to(sinks.astype(jnp.float32).reshape(1, 1, K, G, 1), shape)
