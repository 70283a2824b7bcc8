"""The two roles in a block of the prompt kernel: one warpgroup copies, two compute.

    copying         K tile 0, V tile 0 | K 1, V 1 | wait until tile 0 is used | K 2 ...
    computing 0     q·k  softmax  p·v q·k  softmax  p·v ...
    computing 1          q·k  softmax      p·v q·k  softmax ...

The computing two take turns at the tensor cores, so that a softmax runs beside products.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.paged_attention.aligned_tiles import ALIGNMENT
from pallas_kernels.paged_attention.prefill_scores import LOG2E, WGMMA, seen_keys, to_base_two
from pallas_kernels.paged_attention.prefill_work import (
    STAGES,
    WARPGROUP_ROWS,
    Box,
    Plan,
    Refs,
    Work,
    find_work,
)

# Each warpgroup begins with 168; the computing ones take exactly what the copying one gives.
COMPUTING_REGISTERS, COPYING_REGISTERS = 232, 40
# Finite, as (-inf) - (-inf) would be NaN; and a power of two, whose product with the scale is
# exact, so that a row that has seen nothing yet has exp2(0) and not exp2 of a rounding error.
MASKED = -(2.0**100)


def run_block(plan: Plan, *refs) -> None:
    """The kernel."""
    refs, warpgroup = Refs(*refs), lax.axis_index("warpgroup")

    def play(role, registers, action):
        plgpu.set_max_registers(registers, action=action)
        work = find_work(refs, plan)  # not before: what roles share takes registers of both
        pl.when(work.begin < work.end)(lambda: role(refs, plan, work))

    compute = partial(_compute, warpgroup)
    pl.when(warpgroup == 2)(lambda: play(_copy_tiles, COPYING_REGISTERS, "decrease"))
    pl.when(warpgroup < 2)(lambda: play(compute, COMPUTING_REGISTERS, "increase"))


def _copy_tiles(refs: Refs, plan: Plan, work: Work) -> None:
    """One warp copies keys, one values, as far ahead as there is room."""

    @plgpu.warp_map
    def _(warp):
        keys, values = (refs.k_pages, refs.k), (refs.v_pages, refs.v)
        copy = partial(_copy_pages, refs, plan, work)
        pl.when(warp == 0)(lambda: copy(*keys, refs.k_ready, refs.k_free))
        pl.when(warp == 1)(lambda: copy(*values, refs.v_ready, refs.v_free))


def _copy_pages(refs: Refs, plan: Plan, work: Work, pool, tiles, ready, free) -> None:
    """Fills a stage for each KV tile, and waits in the end for the last ones' use, too."""
    num_pieces, in_page = plan.keys // plan.piece, jnp.int32(plan.page_size // plan.piece)
    kv_head = lax.div(work.heads * plan.heads, jnp.int32(plan.group))
    last_column = refs.pages.shape[1] - 1

    @pl.loop(0, work.num_steps + STAGES)
    def _(step):
        stage = lax.rem(step, jnp.int32(STAGES))
        first = lax.div(work.first_key, jnp.int32(plan.piece)) + step * num_pieces
        # All pages are looked up before the first wait.  Beyond the last column nothing is seen,
        # but the barrier counts on as many copies.
        columns = [lax.div(first + i, in_page) for i in range(num_pieces)]
        pages = [refs.pages[work.sequence, jnp.minimum(c, last_column)] for c in columns]
        pl.when(step >= STAGES)(lambda: plgpu.barrier_wait(free.at[stage]))

        @pl.when(step < work.num_steps)
        def _():
            for i, page in enumerate(pages):
                source = pool.at[page, kv_head]
                if plan.page_size > plan.piece:
                    source = source.at[pl.ds(lax.rem(first + i, in_page) * plan.piece, plan.piece)]
                rows = pl.ds(i * plan.piece, plan.piece)
                plgpu.copy_gmem_to_smem(source, tiles.at[stage, rows], ready.at[stage])


class _State(NamedTuple):
    """A running softmax of 64 rows."""

    out: Array  # [64, D], to be divided by `total`
    peak: Array  # [64], to base two
    total: Array  # [64]


def _compute(warpgroup: Array, refs: Refs, plan: Plan, work: Work) -> None:
    _copy_queries(warpgroup, refs, plan, work)
    state = _State(
        plgpu.layout_cast(jnp.zeros((WARPGROUP_ROWS, plan.dim), jnp.float32), WGMMA),
        plgpu.layout_cast(jnp.full((WARPGROUP_ROWS,), MASKED, jnp.float32), WGMMA.reduce(1)),
        plgpu.layout_cast(jnp.zeros((WARPGROUP_ROWS,), jnp.float32), WGMMA.reduce(1)),
    )
    pl.when(warpgroup == 1)(lambda: _take_turns(refs))
    visit, has_window = partial(_visit, warpgroup, refs, plan, work), plan.window is not None
    begin, end = work.whole_steps(plan)
    if has_window:
        state = lax.fori_loop(0, begin, partial(visit, at_begin=True), state)
    state = lax.fori_loop(begin, end, visit, state)
    at_end = partial(visit, at_begin=has_window, at_end=True)
    state = lax.fori_loop(end, work.num_steps, at_end, state)
    pl.when(warpgroup == 0)(lambda: _take_turns(refs))
    _store(warpgroup, refs, plan, work, state)


def _take_turns(refs: Refs) -> None:
    plgpu.barrier_arrive(refs.turn)
    plgpu.barrier_wait(refs.turn)


def _tokens(plan: Plan, work: Work, box: Box):
    # without the alignment, rows would be copied from and to other places, in silence
    return pl.ds(pl.multiple_of(work.start + box.place, ALIGNMENT), plan.box)


def _copy_queries(warpgroup: Array, refs: Refs, plan: Plan, work: Work) -> None:
    ready = refs.q_ready.at[warpgroup]
    for box in work.boxes(plan, warpgroup):
        rows = refs.rows[0].at[warpgroup, pl.ds(box.row, plan.box)]
        plgpu.copy_gmem_to_smem(refs.q.at[_tokens(plan, work, box), box.head], rows, ready)
    plgpu.barrier_wait(ready)


def _visit(
    warpgroup: Array,
    refs: Refs,
    plan: Plan,
    work: Work,
    step: Array,
    state: _State,
    at_begin: bool = False,
    at_end: bool = False,
) -> _State:
    """Shows a KV tile to 64 rows of queries: one at the begin of their window, or at the end."""
    stage = lax.rem(step, jnp.int32(STAGES))
    first_key = work.first_key + step * plan.keys
    plgpu.barrier_wait(refs.k_ready.at[stage])
    scores = _scores(warpgroup, refs, plan, stage)
    plgpu.barrier_arrive(refs.k_free.at[stage])
    scores, unit = to_base_two(warpgroup, refs, plan, work, first_key, scores)
    if at_begin or at_end:
        seen = seen_keys(warpgroup, plan, work, first_key, at_begin, at_end)
        scores = jnp.where(seen, scores, MASKED)
    peak = jnp.maximum(state.peak, scores.max(axis=1) * unit)
    shrink = jnp.exp2(state.peak - peak)
    weights = jnp.exp2(scores * unit - lax.broadcast_in_dim(peak, scores.shape, [0]))
    total = state.total * shrink + weights.sum(axis=1)
    out = state.out * lax.broadcast_in_dim(shrink, state.out.shape, [0])
    weights = weights.astype(plan.dtype)
    # from here on the turn is ours when it comes, so all must have been computed
    out, peak, total, weights = lax.optimization_barrier((out, peak, total, weights))
    plgpu.barrier_arrive(refs.turn)
    plgpu.barrier_wait(refs.v_ready.at[stage])
    if at_end:
        _clear_unwritten(warpgroup, refs, plan, work.num_keys - first_key, stage)
    plgpu.barrier_wait(refs.turn)
    out = _add_product(out, weights, refs.v.at[stage], plan)
    plgpu.barrier_arrive(refs.v_free.at[stage])
    return _State(out, peak, total)


def _scores(warpgroup: Array, refs: Refs, plan: Plan, stage: Array) -> Array:
    q, k = refs.rows[0].at[warpgroup], refs.k.at[stage].transpose((1, 0))
    if plan.is_interpreted:  # a wgmma's reads are hidden from its race detector
        scores = jnp.dot(q[...], k[...], preferred_element_type=jnp.float32)
        plgpu.commit_smem()
        _take_turns(refs)
        return scores

    def multiply(accumulator):
        plgpu.wgmma(accumulator, q, k)
        _take_turns(refs)  # it is on its way: the tensor cores are the other's next
        return accumulator[...]

    return pl.run_scoped(
        multiply, plgpu.WGMMAAccumulatorRef((WARPGROUP_ROWS, plan.keys), jnp.float32)
    )


def _add_product(out: Array, weights: Array, v, plan: Plan) -> Array:
    if plan.is_interpreted:  # it has no wgmma with weights in registers
        out = out + jnp.dot(weights, v[...], preferred_element_type=jnp.float32)
        plgpu.commit_smem()
        return out
    accumulate = pl.run_state(lambda ref: plgpu.wgmma(ref, weights, v))
    return accumulate(plgpu.WGMMAAccumulatorRef.init(out))  # pyright: ignore[reportReturnType]


def _clear_unwritten(
    warpgroup: Array, refs: Refs, plan: Plan, written: Array, stage: Array
) -> None:
    """Zeroes values that nobody has written: times a weight of 0, NaN is NaN."""
    tile = refs.v.at[stage]

    @pl.when(written < plan.keys)
    def _():  # each warpgroup clears half of the tile
        for i in range(2):
            if plan.keys > WARPGROUP_ROWS:
                first = i * WARPGROUP_ROWS
                half = tile.at[pl.ds(first, WARPGROUP_ROWS)]
            else:
                first = 0
                half = tile.at[:, pl.ds(i * (plan.dim // 2), plan.dim // 2)]
            pl.when(warpgroup == i)(partial(_clear_rows, half, written - first))
        plgpu.commit_smem()
        plgpu.barrier_arrive(refs.both)
        plgpu.barrier_wait(refs.both)


def _clear_rows(values, first: Array) -> None:
    row = plgpu.broadcasted_iota(jnp.int32, values.shape, 0, layout=WGMMA)
    v = plgpu.load(values, layout=WGMMA)
    values[...] = jnp.where(row < first, v, jnp.zeros_like(v))


def _store(warpgroup: Array, refs: Refs, plan: Plan, work: Work, state: _State) -> None:
    share = 1 / jnp.maximum(state.total, 1e-30)  # 0 where there are no keys at all
    out = state.out * lax.broadcast_in_dim(share, state.out.shape, [0])
    out = out.astype(plan.dtype)
    rows = pl.ds(warpgroup * WARPGROUP_ROWS, WARPGROUP_ROWS)
    refs.lse[work.tile, work.heads, rows] = state.peak / LOG2E + jnp.log(state.total)
    is_full = work.end - work.begin == plan.tokens
    pl.when(is_full)(lambda: _store_boxes(warpgroup, refs, plan, work, out))
    pl.when(~is_full)(lambda: _store_rows(warpgroup, refs, plan, work, out))
    plgpu.wait_smem_to_gmem(0)


def _store_boxes(warpgroup: Array, refs: Refs, plan: Plan, work: Work, out: Array) -> None:
    swizzled = refs.rows[0].at[warpgroup]
    swizzled[...] = out
    plgpu.commit_smem()
    for box in work.boxes(plan, warpgroup):
        rows = swizzled.at[pl.ds(box.row, plan.box)]
        plgpu.copy_smem_to_gmem(rows, refs.out.at[_tokens(plan, work, box), box.head])


def _store_rows(warpgroup: Array, refs: Refs, plan: Plan, work: Work, out: Array) -> None:
    """One by one: others' rows are in this tile too, and a copy cannot leave them out."""
    # plain rows lie where the other's queries may be, until it is through as well
    plgpu.barrier_arrive(refs.both)
    plgpu.barrier_wait(refs.both)
    plain = refs.rows[1].at[warpgroup]
    plain[...] = out
    plgpu.commit_smem()
    for box in work.boxes(plan, warpgroup):
        begin = jnp.maximum(work.begin - box.place, 0)
        end = jnp.minimum(work.end - box.place, plan.box)

        @pl.loop(begin, end)
        def _(i, box=box):
            token = work.start + box.place + i
            plgpu.copy_smem_to_gmem(plain.at[box.row + i], refs.out.at[token, box.head])
