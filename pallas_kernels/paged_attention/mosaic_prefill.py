"""Attention of prompts over scattered pages on Hopper, in Pallas's Mosaic GPU dialect.

The running softmax of FlashAttention (Dao et al., 2022), with the division of labour of
FlashAttention-3 (Shah et al., 2024).  A block has three warpgroups and one query tile:

    the copying one     for each KV tile: its pages, one TMA copy each, into swizzled shared memory
    two computing ones  64 rows each:  scores = q · k  (wgmma) → softmax → out += p · v  (wgmma)

and the two computing ones take turns, so that one's softmax runs beside the other's products.
The 128 rows of a tile are tokens × heads that share a kv head, head by head:

    [head 0: 32 tokens][head 1: 32 tokens] | [head 2: 32 tokens][head 3: 32 tokens]
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Float

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.aligned_tiles import (
    ALIGNMENT,
    cut_into_query_tiles,
    tile_of_tokens,
)

WARPGROUP_ROWS = 64  # of one wgmma
ROWS = 2 * WARPGROUP_ROWS
STAGES = 2  # KV tiles in shared memory
COMPUTING_REGISTERS, COPYING_REGISTERS = 232, 40  # 2 · 232 + 40 ≤ 65536 / 128
LOG2E = math.log2(math.e)
# A power of two: its product with any factor is exact, so that a row which has seen only masked
# scores computes exp2(0), not exp2 of a large number's rounding error.
MASKED = -(2.0**100)
WGMMA = plgpu.Layout.WGMMA


@dataclass(frozen=True)
class Plan:
    """What is fixed for a kernel."""

    heads: int  # that share a tile
    group: int  # heads that share a kv head
    dim: int
    page_size: int
    num_columns: int  # of the page table
    dtype: Any
    scale: float
    window: int | None
    softcap: float | None
    has_alibi: bool
    causal: bool
    interpreting: bool

    @property
    def tokens(self) -> int:
        """In a tile."""
        return ROWS // self.heads

    @property
    def keys(self) -> int:
        """In a KV tile: 227 KiB of shared memory hold two stages of these and the queries."""
        return 128 if self.dim <= 128 else 64

    @property
    def piece(self) -> int:
        """Keys that one copy brings: a page, or a part of one that is larger than a KV tile."""
        return min(self.page_size, self.keys)

    @property
    def box(self) -> int:
        """Tokens of one head that one copy moves between global memory and a warpgroup's rows."""
        return min(self.tokens, WARPGROUP_ROWS)

    @property
    def num_boxes(self) -> int:
        """In a warpgroup's rows."""
        return WARPGROUP_ROWS // self.box


class Refs(NamedTuple):
    """Memory, in the order of the kernel's arguments."""

    q: Any  # [T, H, D]
    k_pages: Any  # [P, K, S, D]
    v_pages: Any
    pages: Any  # [B, N]
    tiles: Any  # [M, 6]
    alibi: Any  # [H]
    out: Any  # [T, H, D]
    lse: Any  # [M, H // heads, ROWS]
    rows: Any  # shared: (queries, outputs of a tile that is not full), each [2, 64, D]
    k: Any  # shared: [STAGES, keys, D]
    v: Any
    q_ready: Any
    k_ready: Any
    k_free: Any
    v_ready: Any
    v_free: Any
    turn: Any
    together: Any


class Work(NamedTuple):
    """What one block does, as scalars.  Places count from the tile's first token."""

    block: Array  # which heads
    tile: Array
    sequence: Array
    start: Array  # the tile's first token
    begin: Array  # the first place that is the sequence's
    end: Array
    position: Array  # of the tile's first token
    num_keys: Array
    first_key: Array
    num_steps: Array


def find_work(refs: Refs, plan: Plan) -> Work:
    block, tile = lax.axis_index("block"), lax.axis_index("tile")
    tile = refs.tiles.shape[0] - 1 - tile  # the last tiles of a prompt have most to do: first
    sequence, start, begin, end, position, num_keys = (refs.tiles[tile, i] for i in range(6))
    begin, end = begin - start, end - start
    last = jnp.minimum(num_keys, position + end) if plan.causal else num_keys
    first_key = jnp.int32(0)
    if plan.window is not None:  # pages wholly before the window may be anyone's by now
        first_key = jnp.maximum(position + begin - (plan.window - 1), 0)
        first_key -= lax.rem(first_key, jnp.int32(plan.piece))
    num_steps = pl.cdiv(jnp.maximum(last - first_key, 0), jnp.int32(plan.keys))
    places = (start, begin, end, position)
    return Work(block, tile, sequence, *places, num_keys, first_key, num_steps)


def copy_pages(refs: Refs, plan: Plan, work: Work) -> None:
    """The copying warpgroup: one warp for keys, one for values, as far ahead as there is room."""
    keys = partial(_copy, refs.k_pages, refs.k, refs.k_ready, refs.k_free)
    values = partial(_copy, refs.v_pages, refs.v, refs.v_ready, refs.v_free)

    @plgpu.warp_map
    def _(warp):
        pl.when(warp == 0)(partial(keys, refs, plan, work))
        pl.when(warp == 1)(partial(values, refs, plan, work))


def _copy(pool, shared, ready, free, refs: Refs, plan: Plan, work: Work) -> None:
    """Copies the pieces of each KV tile; then waits until the last ones have been used, too."""
    num_pieces = plan.keys // plan.piece
    in_page = plan.page_size // plan.piece
    kv_head = lax.div(work.block * plan.heads, jnp.int32(plan.group))

    @pl.loop(0, work.num_steps + STAGES)
    def _(step):
        slot = lax.rem(step, jnp.int32(STAGES))
        first = lax.div(work.first_key, jnp.int32(plan.piece)) + step * num_pieces
        columns = [lax.div(first + i, jnp.int32(in_page)) for i in range(num_pieces)]
        # All are asked for before any is waited for.  Beyond the last column there is nothing to
        # see, but the barrier counts on as many copies.
        columns = [jnp.minimum(column, plan.num_columns - 1) for column in columns]
        pages = [refs.pages[work.sequence, column] for column in columns]
        pl.when(step >= STAGES)(lambda: plgpu.barrier_wait(free.at[slot]))

        @pl.when(step < work.num_steps)
        def _():
            for i, page in enumerate(pages):
                offset = lax.rem(first + i, jnp.int32(in_page)) * plan.piece if in_page > 1 else 0
                piece = pool.at[page, kv_head, pl.ds(offset, plan.piece)]
                rows = pl.ds(i * plan.piece, plan.piece)
                plgpu.copy_gmem_to_smem(piece, shared.at[slot, rows], ready.at[slot])


class State(NamedTuple):
    """A running softmax: `peak` is the largest score so far, in units of log2."""

    out: Array  # f32[64, D], to be divided by `total`
    peak: Array  # f32[64]
    total: Array  # f32[64]


def attend(refs: Refs, plan: Plan, work: Work, warpgroup: Array) -> None:
    """A computing warpgroup."""
    _copy_queries(refs, plan, work, warpgroup)
    state = State(
        plgpu.layout_cast(jnp.zeros((WARPGROUP_ROWS, plan.dim), jnp.float32), WGMMA),
        plgpu.layout_cast(jnp.full((WARPGROUP_ROWS,), MASKED, jnp.float32), WGMMA.reduce(1)),
        plgpu.layout_cast(jnp.zeros((WARPGROUP_ROWS,), jnp.float32), WGMMA.reduce(1)),
    )
    pl.when(warpgroup == 1)(lambda: _take_turn(refs))
    visit = partial(_visit, refs, plan, work, warpgroup)
    whole, masked = partial(visit, is_masked=False), partial(visit, is_masked=True)
    first_whole, last_whole = _whole_steps(plan, work)
    if plan.window is not None:
        state = lax.fori_loop(0, first_whole, masked, state)
    state = lax.fori_loop(first_whole, last_whole, whole, state)
    state = lax.fori_loop(last_whole, work.num_steps, masked, state)
    pl.when(warpgroup == 0)(lambda: _take_turn(refs))
    _store(refs, plan, work, warpgroup, state)


def _whole_steps(plan: Plan, work: Work) -> tuple[Array, Array]:
    """From and up to which KV tile every query of the tile sees every key."""
    keys, zero = jnp.int32(plan.keys), jnp.int32(0)
    first_query, last_query = work.position + work.begin, work.position + work.end - 1
    seen = jnp.minimum(work.num_keys, first_query + 1) if plan.causal else work.num_keys
    until = lax.div(jnp.maximum(seen - work.first_key, 0), keys)
    if plan.window is None:
        return zero, until
    hidden = jnp.maximum(last_query - plan.window + 1 - work.first_key, 0)
    begin = jnp.minimum(pl.cdiv(hidden, keys), work.num_steps)
    return begin, jnp.maximum(begin, until)


def _take_turn(refs: Refs) -> None:
    """The tensor cores go to the other warpgroup, and come back."""
    plgpu.barrier_arrive(refs.turn)
    plgpu.barrier_wait(refs.turn)


def _boxes(plan: Plan, work: Work, warpgroup: Array) -> list[tuple[Array, Array, Any]]:
    """The head, first place and rows of each box that a warpgroup's rows consist of."""
    boxes_per_head = plan.tokens // plan.box
    first = warpgroup * plan.num_boxes
    return [
        (
            work.block * plan.heads + lax.div(first + i, jnp.int32(boxes_per_head)),
            lax.rem(first + i, jnp.int32(boxes_per_head)) * plan.box,
            pl.ds(i * plan.box, plan.box),
        )
        for i in range(plan.num_boxes)
    ]


def _copy_queries(refs: Refs, plan: Plan, work: Work, warpgroup: Array) -> None:
    queries, _ = refs.rows
    for head, place, rows in _boxes(plan, work, warpgroup):
        # `start` is a multiple of 8, without which the copy would go wrong in silence
        tokens = pl.ds(pl.multiple_of(work.start + place, ALIGNMENT), plan.box)
        ready = refs.q_ready.at[warpgroup]
        plgpu.copy_gmem_to_smem(refs.q.at[tokens, head], queries.at[warpgroup, rows], ready)
    plgpu.barrier_wait(refs.q_ready.at[warpgroup])


def _visit(
    refs: Refs, plan: Plan, work: Work, warpgroup: Array, step: Array, state: State, is_masked: bool
) -> State:
    """Lets 64 rows of queries see one KV tile."""
    slot = lax.rem(step, jnp.int32(STAGES))
    plgpu.barrier_wait(refs.k_ready.at[slot])
    scores = _scores(refs, plan, warpgroup, slot)
    plgpu.barrier_arrive(refs.k_free.at[slot])
    first_key = work.first_key + step * plan.keys
    scores, unit = _in_log2(refs, plan, work, warpgroup, first_key, scores)
    if is_masked:
        scores = jnp.where(_seen(plan, work, warpgroup, first_key), scores, MASKED)
    peak = jnp.maximum(state.peak, scores.max(axis=1) * unit)
    shrink = jnp.exp2(state.peak - peak)
    p = jnp.exp2(scores * unit - lax.broadcast_in_dim(peak, scores.shape, [0]))
    total = state.total * shrink + p.sum(axis=1)
    out = state.out * lax.broadcast_in_dim(shrink, state.out.shape, [0])
    p = p.astype(plan.dtype)
    # the softmax ends here: without this, its last parts would move behind the barrier
    out, peak, total, p = lax.optimization_barrier((out, peak, total, p))
    plgpu.barrier_arrive(refs.turn)
    plgpu.barrier_wait(refs.v_ready.at[slot])
    if is_masked:
        _clear_unwritten(refs, plan, work.num_keys - first_key, warpgroup, slot)
    plgpu.barrier_wait(refs.turn)
    out = _add_product(out, p, refs.v.at[slot], plan.interpreting)
    plgpu.barrier_arrive(refs.v_free.at[slot])
    return State(out, peak, total)


def _scores(refs: Refs, plan: Plan, warpgroup: Array, slot: Array) -> Array:
    queries, _ = refs.rows
    q, k = queries.at[warpgroup], refs.k.at[slot].transpose((1, 0))
    if plan.interpreting:  # its wgmma is not seen by its race detector
        scores = jnp.dot(q[...], k[...], preferred_element_type=jnp.float32)
        plgpu.commit_smem()
        _take_turn(refs)
        return scores

    def product(accumulator):
        plgpu.wgmma(accumulator, q, k)
        _take_turn(refs)  # it is the other's as soon as this is issued
        return accumulator[...]

    return pl.run_scoped(product, plgpu.ACC((WARPGROUP_ROWS, plan.keys), jnp.float32))


def _add_product(out: Array, p: Array, v, interpreting: bool) -> Array:
    if interpreting:  # its wgmma takes no registers
        out = out + jnp.dot(p, v[...], preferred_element_type=jnp.float32)
        plgpu.commit_smem()
        return out
    return pl.run_state(lambda accumulator: plgpu.wgmma(accumulator, p, v))(plgpu.ACC.init(out))


def _places(plan: Plan, warpgroup: Array, shape: tuple[int, int]) -> Array:
    """Each row's place in the tile."""
    row = plgpu.broadcasted_iota(jnp.int32, shape, 0, layout=WGMMA) + warpgroup * WARPGROUP_ROWS
    return row & (plan.tokens - 1)


def _seen(plan: Plan, work: Work, warpgroup: Array, first_key: Array) -> Array:
    shape = (WARPGROUP_ROWS, plan.keys)
    key = plgpu.broadcasted_iota(jnp.int32, shape, 1, layout=WGMMA)
    query = _places(plan, warpgroup, shape) + (work.position - first_key)
    seen = key < work.num_keys - first_key
    if plan.causal:
        seen &= key <= query
    if plan.window is not None:
        seen &= key > query - plan.window
    return seen


def _in_log2(
    refs: Refs, plan: Plan, work: Work, warpgroup: Array, first_key: Array, scores: Array
) -> tuple[Array, float]:
    """Scores, and what they are to be multiplied with to be exponents of 2."""
    if plan.softcap is None and not plan.has_alibi:
        return scores, plan.scale * LOG2E
    if plan.softcap is None:
        scores = scores * (plan.scale * LOG2E)
    else:
        # the hardware's tanh is off by up to 5e-4, which times a cap of 50 would be seen
        grown = jnp.exp2(scores * (2 * LOG2E * plan.scale / plan.softcap))
        scores = plan.softcap * LOG2E - (2 * plan.softcap * LOG2E) / (grown + 1.0)
    if plan.has_alibi:
        key = plgpu.broadcasted_iota(jnp.int32, scores.shape, 1, layout=WGMMA)
        query = _places(plan, warpgroup, scores.shape) + (work.position - first_key)
        scores += _slopes(refs, plan, work, warpgroup) * (key - query).astype(jnp.float32)
    return scores, 1.0


def _slopes(refs: Refs, plan: Plan, work: Work, warpgroup: Array) -> Array:
    shape = (WARPGROUP_ROWS, plan.keys)
    row = plgpu.broadcasted_iota(jnp.int32, shape, 0, layout=WGMMA)
    slopes = plgpu.layout_cast(jnp.zeros(shape, jnp.float32), WGMMA)
    for i, (head, _, _) in enumerate(_boxes(plan, work, warpgroup)):
        slopes = jnp.where(row >= i * plan.box, refs.alibi[head] * LOG2E, slopes)
    return slopes


def _clear_unwritten(refs: Refs, plan: Plan, written: Array, warpgroup: Array, slot: Array) -> None:
    """Zeroes values that nobody has written: they may be NaN, and 0 · NaN is NaN."""

    @pl.when(written < plan.keys)
    def _():
        for i in range(2):  # each warpgroup clears its half
            if plan.keys > WARPGROUP_ROWS:
                first, half = i * WARPGROUP_ROWS, (pl.ds(i * WARPGROUP_ROWS, WARPGROUP_ROWS),)
            else:
                first, half = 0, (slice(None), pl.ds(i * plan.dim // 2, plan.dim // 2))
            pl.when(warpgroup == i)(partial(_clear, refs.v.at[slot, *half], written - first))
        plgpu.commit_smem()
        plgpu.barrier_arrive(refs.together)
        plgpu.barrier_wait(refs.together)


def _clear(values, written: Array) -> None:
    row = plgpu.broadcasted_iota(jnp.int32, values.shape, 0, layout=WGMMA)
    v = plgpu.load(values, layout=WGMMA)
    values[...] = jnp.where(row < written, v, jnp.zeros_like(v))


def _store(refs: Refs, plan: Plan, work: Work, warpgroup: Array, state: State) -> None:
    share = 1 / jnp.maximum(state.total, 1e-30)
    out = state.out * lax.broadcast_in_dim(share, state.out.shape, [0])
    out = out.astype(plan.dtype)
    mine = pl.ds(warpgroup * WARPGROUP_ROWS, WARPGROUP_ROWS)
    refs.lse[work.tile, work.block, mine] = state.peak / LOG2E + jnp.log(state.total)
    is_full = work.end - work.begin == plan.tokens
    pl.when(is_full)(lambda: _store_boxes(refs, plan, work, warpgroup, out))
    pl.when(~is_full)(lambda: _store_rows(refs, plan, work, warpgroup, out))
    plgpu.wait_smem_to_gmem(0)


def _store_boxes(refs: Refs, plan: Plan, work: Work, warpgroup: Array, out: Array) -> None:
    rows_of, _ = refs.rows
    rows_of[warpgroup] = out
    plgpu.commit_smem()
    for head, place, rows in _boxes(plan, work, warpgroup):
        tokens = pl.ds(pl.multiple_of(work.start + place, ALIGNMENT), plan.box)
        plgpu.copy_smem_to_gmem(rows_of.at[warpgroup, rows], refs.out.at[tokens, head])


def _store_rows(refs: Refs, plan: Plan, work: Work, warpgroup: Array, out: Array) -> None:
    """One by one: a neighbour's rows are in the same tile, and a copy cannot leave them out."""
    _, rows_of = refs.rows
    plgpu.barrier_arrive(refs.together)  # these rows lie where the other's queries may be
    plgpu.barrier_wait(refs.together)
    rows_of[warpgroup] = out
    plgpu.commit_smem()
    for i, (head, place, _) in enumerate(_boxes(plan, work, warpgroup)):
        begin, end = jnp.maximum(work.begin - place, 0), jnp.minimum(work.end - place, plan.box)

        @pl.loop(begin, end)
        def _(row, i=i, head=head, place=place):
            source = rows_of.at[warpgroup, i * plan.box + row]
            plgpu.copy_smem_to_gmem(source, refs.out.at[work.start + place + row, head])


def _kernel(plan: Plan, *refs) -> None:
    warpgroup = lax.axis_index("warpgroup")

    def run(role, registers, action):
        plgpu.set_max_registers(registers, action=action)
        # found in each role: a scalar that both share would take one of the copying one's registers
        work = find_work(Refs(*refs), plan)
        pl.when(work.begin < work.end)(lambda: role(Refs(*refs), plan, work))

    pl.when(warpgroup == 2)(lambda: run(copy_pages, COPYING_REGISTERS, "decrease"))
    pl.when(warpgroup < 2)(lambda: run(partial(attend, warpgroup=warpgroup), COMPUTING_REGISTERS, "increase"))


def _scratch(plan: Plan) -> list:
    width = math.gcd(plan.dim * 2, 128)  # bytes of a row that are swizzled together
    swizzled = (plgpu.TilingTransform((8, width // 2)), plgpu.SwizzleTransform(width))
    of_queries, of_keys = (2, WARPGROUP_ROWS, plan.dim), (STAGES, plan.keys, plan.dim)
    pieces = plan.keys // plan.piece
    once = plgpu.Barrier(num_barriers=STAGES, num_arrivals=2)  # by both computing warpgroups
    filled = plgpu.Barrier(num_barriers=STAGES, num_arrivals=pieces)
    return [
        plgpu.RefUnion(
            plgpu.SMEM(of_queries, plan.dtype, transforms=swizzled),
            plgpu.SMEM(of_queries, plan.dtype),
        ),
        plgpu.SMEM(of_keys, plan.dtype, transforms=swizzled),
        plgpu.SMEM(of_keys, plan.dtype, transforms=swizzled),
        plgpu.Barrier(num_barriers=2, num_arrivals=plan.num_boxes),
        filled,
        once,
        filled,
        once,
        plgpu.Barrier(num_arrivals=2),
        plgpu.Barrier(num_arrivals=2),
    ]


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
    interpret: Any = None,
) -> tuple[Float[Array, "T H D"], Float[Array, "T H"]]:
    """Attention of the step's queries, and the natural logarithm of each softmax's denominator.

    Without `causal`, a query sees all keys of its sequence.  Sequences with fewer than
    `least_queries` tokens in this step are left out: zeros, and -inf.  So are padding tokens.
    """
    T, H, D = q.shape
    K, S = k_pages.shape[1:3]
    heads = math.gcd(H // K, 16)
    plan = Plan(
        heads=heads,
        group=H // K,
        dim=D,
        page_size=S,
        num_columns=table.pages.shape[1],
        dtype=q.dtype,
        scale=scale,
        window=window,
        softcap=softcap,
        has_alibi=alibi is not None,
        causal=causal,
        interpreting=interpret is not None,
    )
    tiles = cut_into_query_tiles(table, plan.tokens, least_queries)
    tiles = tiles._replace(sequence=jnp.minimum(tiles.sequence, table.lengths.shape[0] - 1))
    num_tiles = tiles.start.shape[0]
    padded = jnp.pad(q, ((0, -T % ALIGNMENT), (0, 0), (0, 0)))
    out, lse = plgpu.kernel(
        partial(_kernel, plan),
        out_type=[
            jax.ShapeDtypeStruct(padded.shape, q.dtype),
            jax.ShapeDtypeStruct((num_tiles, H // heads, ROWS), jnp.float32),
        ],
        scratch_types=_scratch(plan),
        grid=(H // heads, num_tiles),
        grid_names=("block", "tile"),
        num_threads=3,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Lane
        ),
        interpret=interpret,
    )(
        padded,
        k_pages,
        v_pages,
        table.pages,
        jnp.stack(tiles, axis=1),
        jnp.zeros(H, jnp.float32) if alibi is None else alibi.astype(jnp.float32),
    )
    tile, place = tile_of_tokens(table, plan.tokens)
    lse = lse.reshape(num_tiles, H, plan.tokens)[tile, :, place]
    return out[:T], lse
