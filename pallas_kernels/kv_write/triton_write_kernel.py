"""The Triton kernel behind `triton_write.py`, which alone imports it: Triton may be missing.

A program takes some rows of D elements, each one head of one token, as they lie in k and in v:

    rows    t0 h0, t0 h1, .., t1 h0, t1 h1, ..     each to (page, head, offset) of its slot
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]


@triton.jit
@no_type_check
def write_both(
    k_ptr,  # [T, K, D], like v
    v_ptr,
    slots_ptr,  # [T]
    k_scale_ptr,  # [K], like v's: any pointer where LARGEST is 0
    v_scale_ptr,
    num_rows,
    num_slots,
    k_pages_ptr,  # [P, K, S, D], in place
    v_pages_ptr,
    _k_unused,
    _v_unused,
    K: tl.constexpr,
    D: tl.constexpr,
    S: tl.constexpr,
    ROWS: tl.constexpr,
    DIMS: tl.constexpr,  # D, rounded up to a power of two
    LARGEST: tl.constexpr,  # what a page's type can hold, 0 where nothing is scaled
    IS_INTEGER: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, DIMS)
    head = row % K
    slot = tl.load(slots_ptr + row // K, mask=row < num_rows, other=num_slots).to(tl.int64)
    # padding has a slot beyond the last
    mask = (slot < num_slots)[:, None] & (d < D)[None, :]
    source = row[:, None] * D + d[None, :]
    target = (((slot // S) * K + head) * S + slot % S)[:, None] * D + d[None, :]
    # nothing is read twice, and the pages are read next
    k = tl.load(k_ptr + source, mask=mask, other=0.0, eviction_policy="evict_first")
    v = tl.load(v_ptr + source, mask=mask, other=0.0, eviction_policy="evict_first")
    if LARGEST > 0:
        k = quantised(k, tl.load(k_scale_ptr + head), LARGEST, IS_INTEGER)
        v = quantised(v, tl.load(v_scale_ptr + head), LARGEST, IS_INTEGER)
    tl.store(k_pages_ptr + target, k.to(k_pages_ptr.dtype.element_ty), mask=mask)
    tl.store(v_pages_ptr + target, v.to(v_pages_ptr.dtype.element_ty), mask=mask)


@triton.jit
@no_type_check
def quantised(x, scale, LARGEST: tl.constexpr, IS_INTEGER: tl.constexpr):
    """As in `reference.py`."""
    x = x.to(tl.float32) * tl.div_rn(1.0, scale)[:, None]
    x = tl.minimum(tl.maximum(x, -LARGEST), LARGEST)
    if IS_INTEGER:
        # there are no fractions at 1.5 · 2^23: the addition rounds to the nearest, ties to even
        x = (x + 12582912.0) - 12582912.0
    return x
