"""The Triton kernel behind `triton_ragged.py`, which alone imports it: Triton may be missing.

A program takes one tile of queries and one kv head.  The G query heads that share it are rows of
the same matrix, so that a tile of C tokens is C · G rows, and every key read serves them all:

    rows    t0 h0, t0 h1, .., t1 h0, t1 h1, ..     [ROWS, D]
    keys    KEYS neighbours of a sequence, gathered from its pages, each page by its id

The walk over the keys keeps a running softmax (Milakov and Gimelshein, 2018) in base 2, as in
FlashAttention (Dao et al., 2022).  `no_type_check` keeps the tests' import hook from wrapping
functions whose source Triton reads.
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
INFINITY = tl.constexpr(float("inf"))


@triton.jit
@no_type_check
def attend(
    q_ptr,  # [T, K, G, D]
    k_ptr,  # [P, K, S, D], like v
    v_ptr,
    pages_ptr,  # [B, N]
    positions_ptr,  # [T]
    tiles_ptr,  # [tiles, 4], of `query_tiles`
    slopes_ptr,  # [K, G], any pointer where not HAS_ALIBI
    N,
    out_ptr,  # [T, K, G, D]
    lse_ptr,  # [T, K, G]
    K: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    S: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    DIMS: tl.constexpr,  # D, rounded up to a power of two
    SCALE: tl.constexpr,
    WINDOW: tl.constexpr,  # 0 for none
    SOFTCAP: tl.constexpr,  # 0 for none
    HAS_ALIBI: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tile = tiles_ptr + 4 * tl.program_id(0)
    head = tl.program_id(1)
    count = tl.load(tile + 2)
    if count == 0:
        return
    first = tl.load(tile + 1)
    end = tl.load(tile + 3)
    table = pages_ptr + tl.load(tile) * N

    row = tl.arange(0, ROWS)
    d = tl.arange(0, DIMS)
    is_query = row // G < count
    position = tl.load(positions_ptr + first + row // G, mask=is_query, other=-1)
    at = ((first + row // G) * K + head) * G + row % G
    is_element = is_query[:, None] & (d < D)[None, :]
    q = tl.load(q_ptr + at[:, None] * D + d[None, :], mask=is_element, other=0.0)
    if HAS_ALIBI:
        slope = tl.load(slopes_ptr + head * G + row % G) * LOG2E

    # no query of this tile sees a key before `begin`, or at `end` and beyond
    begin = 0
    if CAUSAL:
        end = tl.minimum(end, tl.max(position, 0) + 1)
    if WINDOW > 0:
        earliest = tl.min(tl.where(is_query, position, 2147483647), 0)
        begin = tl.maximum(earliest - WINDOW + 1, 0)

    peak = tl.full((ROWS,), -INFINITY, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    acc = tl.zeros((ROWS, DIMS), tl.float32)
    for start in range(begin // KEYS * KEYS, end, KEYS):
        key = start + tl.arange(0, KEYS)
        # all else is not even read: it may be NaN, or a page that is somebody else's by now
        is_read = (key >= begin) & (key < end)
        if S % KEYS == 0:
            page = tl.load(table + start // S).to(tl.int64)
        else:
            page = tl.load(table + key // S, mask=is_read, other=0).to(tl.int64)
        element = (page * K + head) * (S * D) + key % S * D
        mask = is_read[:, None] & (d < D)[None, :]
        offsets = element[:, None] + d[None, :]
        k = converted(tl.load(k_ptr + offsets, mask=mask, other=0.0), q.dtype)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (SCALE * LOG2E)
        if SOFTCAP > 0:
            scores = capped(scores, SOFTCAP * LOG2E)
        if HAS_ALIBI:
            distance = key[None, :] - position[:, None]
            scores += slope[:, None] * distance.to(tl.float32)

        is_seen = is_read[None, :]
        if CAUSAL:
            is_seen &= key[None, :] <= position[:, None]
        if WINDOW > 0:
            is_seen &= key[None, :] > position[:, None] - WINDOW
        scores = tl.where(is_seen, scores, -INFINITY)

        new_peak = tl.maximum(peak, tl.max(scores, 1))
        # a row that has seen nothing: (-inf) - (-inf) would be NaN
        base = tl.where(new_peak == -INFINITY, 0.0, new_peak)
        p = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(peak - base)
        total = total * shrink + tl.sum(p, 1)
        v = converted(tl.load(v_ptr + offsets, mask=mask, other=0.0), q.dtype)
        acc = tl.dot(p.to(q.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        peak = new_peak

    is_empty = total == 0.0
    out = acc / tl.where(is_empty, 1.0, total)[:, None]
    lse = tl.where(is_empty, -INFINITY, (peak + tl.log2(total)) * LN2)
    tl.store(out_ptr + at[:, None] * D + d[None, :], out.to(q.dtype), mask=is_element)
    tl.store(lse_ptr + at, lse, mask=is_query)


@triton.jit
@no_type_check
def converted(x, dtype: tl.constexpr):
    """A page's elements as q's; uint8 are the bits of float8_e4m3fn, unknown before sm_89."""
    if x.dtype == tl.uint8:
        # float16 has the same fields but a bias of 15, not 7: off by 2^8, exactly
        x = x.to(tl.int8, bitcast=True).to(tl.int16)
        half = ((x << 7) & -16512).to(tl.float16, bitcast=True)  # sign and fields: 0xBF80
        # NaN, 0x7F, looks like 1.875; asked of the bits, it makes Triton 3.9 spill
        x = tl.where(tl.abs(half) == 1.875, float("nan"), half * 256.0)
    return x.to(dtype)


@triton.jit
@no_type_check
def capped(x, cap: tl.constexpr):
    """cap · tanh(x / cap): by exp2, to 1e-7 of the cap; Triton has no tanh of its own."""
    return cap - 2 * cap / (1 + tl.exp2(x * (2 * LOG2E / cap)))
