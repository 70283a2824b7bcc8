"""One block of the Mosaic decode kernel: tiles of keys and values arrive, and are attended to.

    pages      [7][2][9][4][1]...          of K and of V, as the table says
    memory     tile i+2, i+1 under way     TMA from Hopper on, cp.async before
    scores     keys x heads   = K q^T      the keys are the product's rows, so that a group of
    weights    softmax over the keys       query heads, padded to eight, is enough columns
    result     D x heads     += V^T w

The softmax is a running one (Milakov and Gimelshein, 2018) whose denominator stays spread over the
threads until the end.  Mosaic puts no barriers of its own around loads, stores and copies here:
`_step` says why one of ours is enough.
"""

# Pallas's references and transforms say less of their types than a checker wants to know.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportAbstractUsage=false
# pyright: reportCallIssue=false

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.paged_attention.decode_plan import FEWEST_KEYS, Plan

MASKED = -1e30  # finite: (-inf) - (-inf) would be NaN
LOG2E = math.log2(math.e)  # exponentials are to base two, as the hardware has them
TINY = 2.0**-100  # queries below may as well be zero


class _Refs(NamedTuple):
    """Global memory: q [B, blocks, heads, D], pages [P, K, S, D], the table [B, N],
    the result [splits, B, blocks, D, heads].

    Shared memory: stages [stages, keys, D], weights [2, keys, heads], converted [2, keys, D].
    """

    q: Array
    k_pages: Array
    v_pages: Array
    table: Array
    lengths: Array
    starts: Array
    slopes: Array | None
    out: Array
    lse: Array
    k: Array
    v: Array
    weights: Array
    converted: Array
    barrier: Array


class _Span(NamedTuple):
    """Keys [start, end) of sequence `b` are seen; the block's tiles begin at key `origin`."""

    b: Array
    kv_head: Array
    start: Array
    end: Array
    origin: Array
    num_tiles: Array


@dataclass(frozen=True)
class Block:
    """The work of one block; its fields are what is known when the kernel is traced."""

    plan: Plan
    dtype: jnp.dtype  # of both factors of a product
    has_tma: bool
    scale: float
    window: int | None
    softcap: float | None
    has_alibi: bool
    splits: int
    parts: int
    is_interpreted: bool

    def scratch(self, k_pages: Array) -> list:
        plan, dtype, (S, D) = self.plan, self.dtype, k_pages.shape[2:]
        stages = _tiled((plan.stages, plan.keys, D), k_pages.dtype, plan.swizzle)
        is_converted = k_pages.dtype != dtype
        wide = _tiled((2, plan.keys, D), dtype, math.gcd(128, 2 * D))
        copies = 2 * max(1, plan.keys // S)
        arrived = plgpu.Barrier(num_arrivals=copies, num_barriers=plan.stages)
        return [
            *(stages, stages),
            plgpu.SMEM((2, plan.keys, plan.heads), dtype),
            wide if is_converted else plgpu.SMEM((8, 16), dtype),
            arrived if self.has_tma else plgpu.Barrier(),
        ]

    def run(self, *refs):
        refs = _Refs(*refs) if self.has_alibi else _Refs(*refs[:6], None, *refs[6:])
        h, b, split = lax.axis_index("h"), lax.axis_index("b"), lax.axis_index("s")
        span = self._span(refs, h, b, split)
        rows = self._acc()
        heads, D = self.plan.heads, refs.q.shape[-1]
        q, unit = self._queries(refs, h, b)
        slopes = None
        if refs.slopes is not None:
            slopes = plgpu.load(refs.slopes.at[h], layout=rows.reduce(0), optimized=False)
        for i in range(self.plan.stages - 1):

            @pl.when(i < span.num_tiles)
            def _(i=i):
                self._fetch(refs, span, i, self._pages(refs, span, i))

        state = (
            plgpu.layout_cast(jnp.zeros((D, heads), jnp.float32), rows),
            plgpu.layout_cast(jnp.full((heads,), MASKED, jnp.float32), rows.reduce(0)),
            plgpu.layout_cast(jnp.zeros((self.plan.keys, heads), jnp.float32), rows),
        )
        step = partial(self._step, refs, span, q, unit, slopes)
        acc, peak, total = lax.fori_loop(0, span.num_tiles, step, state)
        self._finish(refs, (split, b, h), span, acc, peak, total.sum(axis=0))

    def _queries(self, refs: _Refs, h: Array, b: Array):
        """[D, heads] in registers, where every tile is multiplied by it, and its unit.

        fp8 converts to float16 in one instruction, to bfloat16 in three: over such pages q is
        float16 too.  That it may not overflow, it is in units of a power of two near its largest.
        """
        q = plgpu.load(refs.q.at[b, h].T, layout=self._rhs(), optimized=False)
        if q.dtype == self.dtype:
            return q, 1.0
        spread = plgpu.Layout.WG_STRIDED(refs.q.shape[2:], vec_size=2)
        again = plgpu.load(refs.q.at[b, h], layout=spread).astype(jnp.float32)
        largest = jnp.maximum(jnp.abs(again).max(axis=(0, 1)), TINY)
        exponent = jnp.log2(largest).astype(jnp.int32).astype(jnp.float32)
        q = q.astype(jnp.float32) * jnp.exp2(-exponent)
        return q.astype(self.dtype), jnp.exp2(exponent)

    def _span(self, refs: _Refs, h: Array, b: Array, split: Array) -> _Span:
        """This split's tiles: all splits of a sequence have as many, but the last ones."""
        keys, S = self.plan.keys, refs.k_pages.shape[2]
        start, end = refs.starts[b], refs.lengths[b]
        if self.window is not None:
            start = jnp.maximum(start, end - self.window)
        # tiles begin where pages do, or at a whole number of tiles within one
        origin = start - lax.rem(start, jnp.int32(min(S, keys)))
        # where nothing is seen, there must be no tile: its softmax would be over nothing
        num_tiles = jnp.where(end > start, pl.cdiv(end - origin, jnp.int32(keys)), 0)
        of_split = jnp.maximum(pl.cdiv(num_tiles, jnp.int32(self.splits)), FEWEST_KEYS // keys)
        mine = jnp.clip(num_tiles - split * of_split, 0, of_split)
        kv_head = lax.div(h, jnp.int32(self.parts))
        return _Span(b, kv_head, start, end, origin + split * of_split * keys, mine)

    def _pages(self, refs: _Refs, span: _Span, i: Array | int) -> list[Array]:
        """The pages of tile i; behind the last one it comes again, from the cache."""
        S, keys = refs.k_pages.shape[2], self.plan.keys
        last = lax.div(span.end - 1, jnp.int32(S))  # the table need not reach further
        column = lax.div(span.origin + i * keys, jnp.int32(S))
        num_pages = max(1, keys // S)
        return [refs.table[span.b, jnp.minimum(column + n, last)] for n in range(num_pages)]

    def _fetch(self, refs: _Refs, span: _Span, i: Array | int, pages: list[Array]) -> None:
        """Starts the copies of tile i, K and V, into its stage."""
        S, keys = refs.k_pages.shape[2], self.plan.keys
        stage = lax.rem(jnp.int32(i), jnp.int32(self.plan.stages))
        offset = lax.rem(span.origin + i * keys, jnp.int32(S))
        for n, page in enumerate(pages):
            for whole, shared in ((refs.k_pages, refs.k), (refs.v_pages, refs.v)):
                source = whole.at[page, span.kv_head]
                if S > keys:
                    source = source.at[pl.ds(pl.multiple_of(offset, keys), keys)]
                target = shared.at[stage, pl.ds(n * S, min(S, keys))]
                self._copy(source, target, refs.barrier, stage)

    def _copy(self, source, target, barrier, stage: Array) -> None:
        if self.has_tma:
            plgpu.copy_gmem_to_smem(source, target, barrier.at[stage])
        else:
            plgpu.copy_gmem_to_smem(source, target, oob_mode=plgpu.OOBFillMode.PROMISE_IN_BOUNDS)

    def _await(self, refs: _Refs, span: _Span, i: Array) -> None:
        """Waits for tile i, then has later ones fetched.

        The stage that tile i + stages - 1 goes to is tile i - 1's.  cp.async knows no barrier
        for data: each thread waits for its own copies, then all for all.
        """
        if self.has_tma:
            plgpu.barrier_wait(refs.barrier.at[lax.rem(i, jnp.int32(self.plan.stages))])
            return
        ahead = self.plan.stages - 2  # tiles that may still be under way
        copies = 2 * max(1, self.plan.keys // refs.k_pages.shape[2])
        is_ahead = i + ahead < span.num_tiles
        pl.when(is_ahead)(lambda: plgpu.wait_gmem_to_smem(ahead * copies))
        pl.when(jnp.logical_not(is_ahead))(lambda: plgpu.wait_gmem_to_smem(0))
        self._sync(refs)

    def _sync(self, refs: _Refs) -> None:
        """All four warps have come here, and see what the others have written."""
        if self.has_tma:
            plgpu.commit_smem()
        else:  # whose fence for the asynchronous proxy there is none of before Hopper
            plgpu.barrier_arrive(refs.barrier)
            plgpu.barrier_wait(refs.barrier)

    def _step(self, refs: _Refs, span: _Span, q, unit, slopes, i: Array, state):
        acc, peak, total = state
        stage = lax.rem(i, jnp.int32(self.plan.stages))
        parity = lax.rem(i, jnp.int32(2))
        first_key = span.origin + i * self.plan.keys
        following = i + self.plan.stages - 1
        pages = self._pages(refs, span, following)  # long before they are needed
        self._await(refs, span, i)
        scores = self._scores(refs, span, q, unit, slopes, stage, first_key)
        new_peak = jnp.maximum(peak, scores.max(axis=0))
        shrink = jnp.exp2(peak - new_peak)
        weights = jnp.exp2(scores - _along(new_peak, scores))
        total = total * _along(shrink, total) + weights
        refs.weights[parity] = weights.astype(self.dtype)
        self._prepare_values(refs, span, stage, parity, first_key)
        # The one rendezvous of a step.  Weights are visible after it; and as each warp has read
        # its part of tile i - 1 before it, that tile's stage can be filled anew.  Weights and
        # converted values alternate between two places, so that none is overwritten while read.
        self._sync(refs)
        fetch = partial(self._fetch, refs, span, following, pages)
        pl.when(following < span.num_tiles)(fetch)
        right = plgpu.load(refs.weights.at[parity], layout=self._rhs(), optimized=False)
        values = refs.converted.at[parity] if self._is_converted(refs) else refs.v.at[stage]
        left = plgpu.load(values.T, layout=self._lhs(), optimized=False)
        acc = self._mma(acc * _along(shrink, acc), left, right)
        return acc, new_peak, total

    def _scores(self, refs: _Refs, span: _Span, q, unit, slopes, stage: Array, first_key: Array):
        """To base two: [keys, heads], and MASKED where a key is not seen."""
        shape, rows = (self.plan.keys, self.plan.heads), self._acc()
        keys = plgpu.load(refs.k.at[stage], layout=self._lhs(), optimized=False)
        nothing = plgpu.layout_cast(jnp.zeros(shape, jnp.float32), rows)
        scores = self._mma(nothing, _as(keys, self.dtype, self.has_tma), q)
        if self.softcap is None:
            scores = scores * (unit * (self.scale * LOG2E))
        else:  # c tanh(s / c) = c - 2c / (1 + exp(2s / c)): the hardware's tanh keeps 11 bits only
            grown = jnp.exp2(scores * (unit * (2 * LOG2E * self.scale / self.softcap)))
            scores = self.softcap * LOG2E - 2 * self.softcap * LOG2E / (1 + grown)
        position = plgpu.broadcasted_iota(jnp.int32, shape, 0, layout=rows) + first_key
        if slopes is not None:
            distance = (position - (span.end - 1)).astype(jnp.float32)
            scores = scores + _along(slopes, scores) * distance
        return jnp.where((position >= span.start) & (position < span.end), scores, MASKED)

    def _prepare_values(self, refs: _Refs, span: _Span, stage, parity, first_key) -> None:
        """Converts the tile's values, and clears the unseen: times a weight of 0, NaN is NaN."""
        shape = refs.v.shape[1:]
        layout = plgpu.Layout.MMA_LHS(self.dtype, m_warps=self.plan.keys // 16)

        def cleared():
            values = plgpu.load(refs.v.at[stage], layout=layout, optimized=False)
            values = _as(values, self.dtype, self.has_tma)
            position = plgpu.broadcasted_iota(jnp.int32, shape, 0, layout=layout) + first_key
            seen = (position >= span.start) & (position < span.end)
            return jnp.where(seen, values, jnp.zeros_like(values))

        if self._is_converted(refs):
            refs.converted[parity] = cleared()
            return

        @pl.when((first_key < span.start) | (first_key + self.plan.keys > span.end))
        def _():  # a thread writes what it has read itself, so that nobody need wait
            refs.v[stage] = cleared()

    def _finish(self, refs: _Refs, place: tuple, span: _Span, acc, peak, total) -> None:
        """Writes the result and its log-sum-exp; of an empty split nobody reads the result."""
        out = acc / _along(jnp.maximum(total, 1e-30), acc)

        @pl.when((span.num_tiles > 0) | (self.splits == 1))
        def _():
            refs.out[place] = out.astype(refs.out.dtype)

        lse = (peak + jnp.log2(jnp.maximum(total, 1e-30))) / LOG2E
        refs.lse[place] = jnp.where(total == 0, -jnp.inf, lse)  # a NaN stays one

    def _is_converted(self, refs: _Refs) -> bool:
        return self.dtype != refs.k_pages.dtype

    def _lhs(self):
        return plgpu.Layout.MMA_LHS(self.dtype, m_warps=self.plan.warps)

    def _rhs(self):
        return plgpu.Layout.MMA_RHS(self.dtype, m_warps=self.plan.warps)

    def _acc(self):
        return plgpu.Layout.MMA_ACC(self.dtype, m_warps=self.plan.warps)

    def _mma(self, acc, left, right):
        if self.is_interpreted:  # the interpreter has no tensor core
            return acc + jnp.dot(left.astype(jnp.float32), right.astype(jnp.float32))
        return plgpu.mma(acc, left, right)


def _along(per_head: Array, rows: Array) -> Array:
    """Repeats [heads] for each row of [rows, heads]."""
    return lax.broadcast_in_dim(per_head, rows.shape, [1])


def _as(x: Array, dtype: jnp.dtype, has_tma: bool) -> Array:
    """Converts elements of a page to q's type."""
    if x.dtype == jnp.int8 and not has_tma:
        # Mosaic would subtract in bfloat16, which begins with sm_90.  1.5 * 2^23 + x is exact, and
        # holds x in its lowest bits.
        bits = x.astype(jnp.int32) + 0x4B400000
        return (lax.bitcast_convert_type(bits, jnp.float32) - 1.5 * 2.0**23).astype(dtype)
    if x.dtype in (jnp.float16, jnp.bfloat16, dtype):
        x = x.astype(jnp.float32) if x.dtype != dtype else x  # neither converts to the other
    return x.astype(dtype)


def _tiled(shape: tuple[int, ...], dtype: jnp.dtype, swizzle: int):
    """Shared memory in tiles of 8 rows and `swizzle` bytes, as matrix loads like it."""
    if not swizzle:
        return plgpu.SMEM(shape, dtype)
    tiling = plgpu.TilingTransform((8, swizzle // dtype.itemsize))
    return plgpu.SMEM(shape, dtype, transforms=(tiling, plgpu.SwizzleTransform(swizzle)))
