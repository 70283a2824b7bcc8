"""Paged attention in plain XLA: it *defines* what is right, and serves where no kernel does.

Queries are cut into tiles (`query_tiles.py`).  A few tiles at a time walk their sequences' pages,
a chunk of pages at a step, and keep a running softmax (Milakov and Gimelshein, 2018).  They are
sorted by how far they see, so that those who walk together have about the same way, and neither
empty columns of the table nor one long sequence cost the others anything.  Where the sequences of
a step of single tokens all begin with the same pages, those are walked once, by all together
("cascade": Juravsky et al., Hydragen, 2024).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Num

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.query_tiles import most_tiles, query_tiles

TILE = 16  # queries a tile, where sequences have more than one
GROUP = 16  # tiles that walk together: fewer are slower each, more wait for the longest
KEYS = 1024  # that a group gathers at a step, of all its sequences: they stay in a core's cache
CHUNK = 256  # keys of one sequence at a step, at most
MASKED = -1e30  # finite: (-inf) - (-inf) would be NaN in a row that is masked throughout


class Walkers(NamedTuple):
    """M tiles of C queries: the tokens (T: none), where those stand in their sequences (-1:
    nowhere), the pages of each tile's sequence, and how many tokens have been written there."""

    tokens: Int[Array, "M C"]
    positions: Int[Array, "M C"]
    pages: Int[Array, "M N"]
    lengths: Int[Array, " M"]


class Running(NamedTuple):
    """A softmax on its way: the largest score so far, the sum of weights, the weighted sum."""

    peak: Float[Array, "M K C G 1"]
    total: Float[Array, "M K C G 1"]
    acc: Float[Array, "M K C G D"]


def attend(
    q: Float[Array, "T H D"],
    k_pages: Num[Array, "P K S D"],
    v_pages: Num[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
    alibi: Float[Array, " H"] | None = None,
) -> Float[Array, "T H D"]:
    """See `paged_attention`.  Scores, softmax and sums are float32."""
    T = q.shape[0]
    K, S = k_pages.shape[1:3]
    is_decode = T == table.lengths.shape[0]
    tile = 1 if is_decode else TILE
    num_tiles = most_tiles(T, len(table.lengths), tile)
    size = max(1, min(GROUP, num_tiles // 2))  # empty groups are not walked
    narrow = max(1, min(KEYS // size, CHUNK) // S)  # pages at a step
    wide = narrow * max(1, CHUNK // S // narrow)
    walkers = _line_up(table, tile, size, wide)
    slopes = None if alibi is None else alibi.astype(jnp.float32).reshape(K, 1, -1, 1)
    look = partial(_look, k_pages, v_pages, scale=scale, window=window, softcap=softcap)
    look = partial(look, slopes=slopes)
    first, shared = jnp.int32(0), None
    if is_decode and window is None and T > GROUP:
        num_chunks = num_shared_pages(table, S) // wide
        first = num_chunks * (wide // narrow)
        # one tile of everybody's queries: the pages are the longest one's, and no chunk reaches
        # the end of the shortest
        together = Walkers(walkers.tokens.T, walkers.positions.T, *(a[:1] for a in walkers[2:]))
        rows = _rows(q, together, K)
        visit = partial(look, wide, together, rows)
        shared = lax.fori_loop(0, num_chunks, visit, _start(rows.shape, sinks))

    def walk(group: Array, out: Array) -> Array:
        """One group, from chunk `first` on as far as it sees."""
        mine = jax.tree.map(partial(_part, group * size, size), walkers)
        rows = _rows(q, mine, K)
        start = _start(rows.shape, sinks) if shared is None else _mine(shared, group * size, size)
        begin = first if window is None else _begin(mine.positions, window) // (narrow * S)
        end = mine.positions.max() // (narrow * S) + 1
        _, total, acc = lax.fori_loop(begin, end, partial(look, narrow, mine, rows), start)
        heads = (acc / jnp.maximum(total, 1e-30)).transpose(0, 2, 1, 3, 4)
        heads = heads.reshape(*mine.tokens.shape, *q.shape[1:]).astype(q.dtype)
        return out.at[mine.tokens].set(heads, mode="drop")

    num_groups = (walkers.positions[::size].max(1) >= 0).sum()
    return lax.fori_loop(0, num_groups, walk, jnp.zeros_like(q))


def num_shared_pages(table: PageTable, page_size: int) -> Int[Array, ""]:
    """How many pages all sequences begin with, of those that lie before every query."""
    is_real = table.lengths > 0
    some = table.pages[jnp.argmax(is_real)]
    is_shared = ((table.pages == some) | ~is_real[:, None]).all(0)
    has_query = jnp.arange(len(table.positions)) < table.query_starts[-1]
    first = jnp.min(table.positions, where=has_query, initial=2**30)
    is_shared &= jnp.arange(1, len(some) + 1) * page_size <= first
    return jnp.cumprod(is_shared).sum()


def _line_up(table: PageTable, tile: int, group: int, num_columns: int) -> Walkers:
    """Tiles in whole groups, farthest first."""
    row, first, count, length = query_tiles(table, tile).T
    place = jnp.arange(tile)
    is_real = (place < count[:, None]) & (length > 0)[:, None]
    tokens = jnp.where(is_real, first[:, None] + place, len(table.positions))
    # an empty place sees nothing: its position is before the first key
    positions = table.positions.at[tokens].get(mode="fill", fill_value=-1)
    order = jnp.argsort(-positions.max(1))
    order = jnp.pad(order, (0, -len(order) % group), constant_values=len(order))
    tokens = tokens.at[order].get(mode="fill", fill_value=len(table.positions))
    positions = positions.at[order].get(mode="fill", fill_value=-1)
    sequence = row.at[order].get(mode="fill", fill_value=0)
    # a width that is no multiple would make `dynamic_slice` clamp in silence
    pages = jnp.pad(table.pages, ((0, 0), (0, -table.pages.shape[1] % num_columns)))
    return Walkers(tokens, positions, pages[sequence], table.lengths[sequence])


def _rows(q: Float[Array, "T H D"], walkers: Walkers, kv_heads: int) -> Float[Array, "M K C G D"]:
    M, C = walkers.tokens.shape
    rows = q.at[walkers.tokens].get(mode="fill", fill_value=0).astype(jnp.float32)
    return rows.reshape(M, C, kv_heads, -1, q.shape[2]).transpose(0, 2, 1, 3, 4)


def _start(shape: tuple[int, ...], sinks: Float[Array, " H"] | None) -> Running:
    ones = (*shape[:-1], 1)
    if sinks is None:
        return Running(jnp.full(ones, MASKED), jnp.zeros(ones), jnp.zeros(shape))
    logits = sinks.astype(jnp.float32).reshape(1, shape[1], 1, shape[3], 1)
    return Running(jnp.broadcast_to(logits, ones), jnp.ones(ones), jnp.zeros(shape))


def _mine(shared: Running, first: Array, size: int) -> Running:
    """A group's part of what all found together, where each query is a tile of its own."""
    parts = (lax.dynamic_slice_in_dim(a, first, size, 2) for a in shared)
    return Running(*(a.transpose(2, 1, 0, 3, 4) for a in parts))


def _part(first: Array, size: int, a: Array) -> Array:
    return lax.dynamic_slice_in_dim(a, first, size)


def _begin(positions: Int[Array, "M C"], window: int) -> Int[Array, ""]:
    """The first position that any of the queries sees."""
    lowest = jnp.min(positions, where=positions >= 0, initial=2**30)
    return jnp.maximum(lowest - window + 1, 0)


def _look(
    k_pages: Num[Array, "P K S D"],
    v_pages: Num[Array, "P K S D"],
    per_chunk: int,
    walkers: Walkers,
    rows: Float[Array, "M K C G D"],
    chunk: Int[Array, ""],
    running: Running,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    slopes: Float[Array, "K 1 G 1"] | None,
) -> Running:
    """Takes one chunk of each tile's pages, `per_chunk` of them, into the running softmax."""
    columns = lax.dynamic_slice_in_dim(walkers.pages, chunk * per_chunk, per_chunk, 1)
    k, v = _gather(k_pages, columns), _gather(v_pages, columns)  # [M, K, L, D]
    L = k.shape[2]
    k_positions = chunk * L + jnp.arange(L)
    # a page's unwritten tail may hold anything, NaN too, and 0 · NaN is NaN
    v = jnp.where((k_positions < walkers.lengths[:, None])[:, None, :, None], v, 0)
    scores = _product("BRD,BLD->BRL", rows, k) * scale
    scores = scores if softcap is None else softcap * jnp.tanh(scores / softcap)
    if slopes is not None:
        distance = k_positions - walkers.positions[:, :, None]
        scores += slopes * distance[:, None, :, None, :]
    seen = visible(walkers.positions, k_positions, window)[:, None, :, None, :]
    scores = jnp.where(seen, scores, MASKED)
    peak = jnp.maximum(running.peak, scores.max(-1, keepdims=True))
    p = jnp.where(seen, jnp.exp(scores - peak), 0)
    shrink = jnp.exp(running.peak - peak)
    total = running.total * shrink + p.sum(-1, keepdims=True)
    return Running(peak, total, running.acc * shrink + _product("BRL,BLD->BRD", p, v))


def _gather(kv: Num[Array, "P K S D"], pages: Int[Array, "M n"]) -> Float[Array, "M K L D"]:
    """In float32: XLA:CPU multiplies that faster here than bf16."""
    M, n = pages.shape
    K, S, D = kv.shape[1:]
    return kv[pages].astype(jnp.float32).transpose(0, 2, 1, 3, 4).reshape(M, K, n * S, D)


def _product(
    axes: str, left: Float[Array, "M K C G _"], right: Float[Array, "M K _ _"]
) -> Float[Array, "M K C G _"]:
    """One batch axis and one of rows: XLA:CPU has no fast product for more."""
    M, K, C, G, _ = left.shape
    rows = left.reshape(M * K, C * G, -1)
    return jnp.einsum(axes, rows, right.reshape(M * K, *right.shape[2:])).reshape(M, K, C, G, -1)


def visible(
    q_positions: Int[Array, "M C"], k_positions: Int[Array, " L"], window: int | None
) -> Bool[Array, "M C L"]:
    """Which keys a query may see: none after it, and none `window` or more before it."""
    q, k = q_positions[:, :, None], k_positions[None, None, :]
    seen = k <= q
    return seen if window is None else seen & (k > q - window)
