"""The Mosaic decode kernel, in Pallas's interpreter, against loops in float64 (`ragged.py`).

The interpreter runs the Hopper variant's copies, barriers and loops, and looks for races between
copies and reads; it does not know layouts, nor that a block is four warps.  Those are compiled for
real GPUs in `test_mosaic_decode_compiled.py`.
"""

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks  # the races have no public name
from jax.experimental.pallas import mosaic_gpu as plgpu
from ragged import INT8, Ragged, Shape, attention_and_lse, make_ragged

from pallas_kernels.paged_attention.decode_plan import Gpu, Plan, choose_splits, plan_for
from pallas_kernels.paged_attention.mosaic_decode import decode, why_not

SHAPE = Shape(T=5, B=5, N=16, H=4, K=1, D=64, dtype="bfloat16")
# around the ends of pages of 16, and of tiles of 64 keys
LENGTHS = (0, 1, 17, 64, 200)
# bfloat16 keeps 8 bits: the result and each weight are rounded by up to 2^-9
BFLOAT16 = 1e-2
FLOAT16 = 2e-3


def decode_batch(shape: Shape, lengths: Sequence[int], **options) -> Ragged:
    """One new token for each sequence; the empty ones come last."""
    lengths = sorted(lengths, reverse=True)
    return make_ragged(shape, [(length - 1, 1) for length in lengths if length], **options)


@functools.cache
def jitted(**options):
    interpret = plgpu.InterpretGPUParams(detect_races=True)
    return jax.jit(functools.partial(decode, interpret=interpret, **options))


def run(
    batch: Ragged,
    pages: tuple[np.ndarray, np.ndarray],
    alibi: np.ndarray | None = None,
    first: Sequence[int] | None = None,
    **options,
) -> tuple[np.ndarray, np.ndarray]:
    arrays = [jnp.asarray(each) for each in (batch.q, *pages)]
    extra = {}
    if alibi is not None:
        extra["alibi"] = jnp.asarray(alibi, jnp.float32)
    if first is not None:
        padded = [*first, *[0] * (batch.shape.B - len(first))]
        extra["first"] = jnp.asarray(padded, jnp.int32)
    out, lse = jitted(**options)(*arrays, batch.table.pages, batch.table.lengths, **extra)
    assert out.dtype == batch.q.dtype and lse.dtype == jnp.float32
    assert not gpu_callbacks.get_races().races_found
    return np.asarray(out.astype(jnp.float32)), np.asarray(lse)


def check(batch: Ragged, pages: tuple[np.ndarray, np.ndarray] | None = None, **options) -> None:
    """Asserts that kernel and loops agree, on the result and on its log-sum-exp."""
    unit = INT8 if batch.shape.stored == "int8" else 1
    scale = options.pop("scale", 1 / math.sqrt(batch.shape.D) / unit)
    known = {key: options[key] for key in options if key != "num_splits"}
    expected, expected_lse = attention_and_lse(batch, scale, **known)

    out, lse = run(batch, pages or batch.written(), scale=scale, **options)

    tolerance = FLOAT16 if batch.q.dtype == np.float16 else BFLOAT16
    np.testing.assert_allclose(out / unit, expected / unit, rtol=tolerance, atol=tolerance)
    # keys and queries are as they are, and sums are float32; an exponential keeps 2^-22
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("page_size", [8, 16, 32, 64, 128])
def test_it_is_attention_whatever_the_page_size(page_size):
    check(decode_batch(replace(SHAPE, S=page_size, N=256 // page_size), LENGTHS))


@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
def test_head_dimensions(head_dim):
    shape = replace(SHAPE, D=head_dim)

    check(decode_batch(shape, LENGTHS))


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (14, 2), (9, 1), (40, 1)])
def test_query_heads_share_kv_heads_in_order(heads, kv_heads):
    shape = replace(SHAPE, H=heads, K=kv_heads, T=2, B=2)

    check(decode_batch(shape, [100, 7]))


# exact conversions: the oracle's keys and values are those of the pages
@pytest.mark.parametrize(
    ("dtype", "page_dtype"),
    [
        ("bfloat16", "float8_e4m3fn"),
        ("float16", "float8_e5m2"),
        ("bfloat16", "int8"),
        ("float16", "bfloat16"),
    ],
)
def test_pages_of_other_types_are_converted(dtype, page_dtype):
    check(decode_batch(replace(SHAPE, dtype=dtype, page_dtype=page_dtype), LENGTHS))


@pytest.mark.parametrize("factor", [0, 1e-30, 1e-3, 1e6, 1e30])
def test_queries_over_fp8_pages_may_be_larger_or_smaller_than_float16(factor):
    """Over which they are multiplied as float16."""
    batch = decode_batch(replace(SHAPE, page_dtype="float8_e4m3fn"), [100, 7])
    batch.q[:] = batch.q * factor
    scale = 0.125 / factor if factor else 0.125

    check(batch, scale=scale)


def test_float16():
    check(decode_batch(replace(SHAPE, dtype="float16"), LENGTHS))


@pytest.mark.parametrize("num_splits", [1, 2, 3, 11])
def test_splits_are_merged(num_splits):
    check(decode_batch(SHAPE, [0, 1, 64, 129, 250]), num_splits=num_splits)


def test_more_tiles_than_there_are_stages():
    check(decode_batch(replace(SHAPE, T=2, B=2, N=64), [1000, 613]), num_splits=1)


@pytest.mark.parametrize("page_size", [16, 128])
@pytest.mark.parametrize("window", [1, 15, 64, 100])
def test_a_sliding_window(window, page_size):
    shape = replace(SHAPE, S=page_size, N=256 // page_size)

    check(decode_batch(shape, LENGTHS), window=window)


@pytest.mark.parametrize("softcap", [0.5, 30.0])
def test_a_softcap(softcap):
    check(decode_batch(SHAPE, LENGTHS), softcap=softcap)


def test_large_scores_stay_under_a_softcap():
    batch = decode_batch(SHAPE, LENGTHS)
    batch.q[:] = batch.q * 1e4

    check(batch, softcap=2.0)


def slopes(num_heads: int) -> np.ndarray:
    return 2.0 ** -np.linspace(0.5, 8, num_heads)


@pytest.mark.parametrize("heads", [4, 40])
def test_alibi(heads):
    shape = replace(SHAPE, H=heads, T=3, B=3)

    check(decode_batch(shape, [200, 65, 3]), alibi=slopes(heads))


@pytest.mark.parametrize("num_splits", [1, 3])
def test_keys_before_the_first_are_left_out(num_splits):
    """They are a prefix that several sequences share; of some sequences nothing else is left."""
    batch = decode_batch(SHAPE, [200, 130, 96, 65, 32])

    check(batch, first=[48, 100, 96, 64, 32], num_splits=num_splits)


def test_all_options_together():
    shape = replace(SHAPE, page_dtype="float8_e4m3fn", S=32, N=8)
    options = {"window": 90, "softcap": 3.0, "alibi": slopes(4), "num_splits": 2}

    check(decode_batch(shape, LENGTHS), first=[150, 3, 16, 0], **options)


def with_hidden(
    batch: Ragged, starts: Sequence[int], value: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pages, where each key before `starts` holds `value` too."""
    k_pages, v_pages = batch.written()
    S = batch.shape.S
    for row, start in enumerate(starts):
        for position in range(start):
            page = batch.table.pages[row, position // S]
            k_pages[page, :, position % S] = v_pages[page, :, position % S] = value
    return k_pages, v_pages


@pytest.mark.parametrize("page_dtype", [None, "float8_e5m2"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_seen_is_never_felt(value, page_dtype):
    lengths = [200, 130, 70, 64, 3]
    shape = replace(SHAPE, page_dtype=page_dtype)
    batch = decode_batch(shape, lengths, unwritten=value)
    starts = [max(0, length - 50) for length in lengths]

    check(batch, with_hidden(batch, starts, value), window=50)


def test_pages_before_the_window_are_never_read():
    """Their entries in the table may name what is no page any more."""
    batch = decode_batch(SHAPE, [200, 130])
    pages = np.array(batch.table.pages)
    pages[0, : (200 - 50) // 16] = pages[1, : (130 - 50) // 16] = 10**6
    lost = replace(batch, table=batch.table._replace(pages=jnp.asarray(pages)))

    check(lost, window=50)


def test_one_sequences_nan_stays_its_own():
    batch = decode_batch(SHAPE, [100, 60, 30])
    expected, _ = attention_and_lse(batch, 0.125)
    k_pages, v_pages = batch.written()
    k_pages[batch.table.pages[1, 0]] = np.nan

    out, _ = run(batch, (k_pages, v_pages), scale=0.125)

    assert np.isnan(out[1]).all()
    np.testing.assert_allclose(out[[0, 2]], expected[[0, 2]], rtol=BFLOAT16, atol=BFLOAT16)


def test_a_step_without_sequences_is_zeros():
    batch = decode_batch(SHAPE, [0])

    out, lse = run(batch, batch.written(), scale=0.125)

    assert not out.any() and np.isneginf(lse).all()


def empty(shape: Shape) -> tuple[jax.Array, jax.Array]:
    q = jnp.zeros((shape.B, shape.H, shape.D), shape.dtype)
    return q, jnp.zeros((3, shape.K, shape.S, shape.D), shape.stored)


@pytest.mark.parametrize(
    ("change", "compute_capability", "reason"),
    [
        ({"dtype": "float32"}, (9, 0), "bfloat16 or float16 queries, not float32"),
        ({"page_dtype": "int32"}, (9, 0), "reads pages of .*, not int32"),
        ({"D": 72}, (9, 0), "not head_dim 72, page_size 16"),
        ({"S": 48}, (9, 0), "page_size 48"),
        ({"H": 9, "K": 2}, (9, 0), "9 heads over 2"),
        ({}, (7, 5), "sm_80 or newer, not sm_75"),
        ({"page_dtype": "float8_e4m3fn"}, (8, 0), "fp8 pages from sm_89 on, not on sm_80"),
        ({"D": 80}, (8, 0), "16 x 160 bytes cannot be shared out"),
        ({"D": 256}, (8, 9), "two tiles of 64 x 512 bytes, K and V, are more than 101376"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_with_its_numbers(change, compute_capability, reason):
    arrays = empty(replace(SHAPE, **change))

    assert why_not(*empty(SHAPE), compute_capability=(9, 0)) is None
    said = why_not(*arrays, compute_capability=compute_capability)
    assert said is not None
    assert re.search(reason, said), said


def test_a_refused_shape_raises_its_reason():
    batch = make_ragged(replace(SHAPE, dtype="float32"), [(3, 1)])

    with pytest.raises(NotImplementedError, match="float16 queries, not float32"):
        run(batch, batch.written(), scale=1.0)


def test_plans_fit_their_gpu_and_keep_tiles_under_way():
    for gpu in (Gpu(), Gpu((8, 0), 108, 163 * 1024), Gpu((8, 9), 142, 99 * 1024)):
        for D in (64, 128):
            q, k_pages = empty(replace(SHAPE, D=D))

            plan = plan_for(q, k_pages, gpu)

            assert isinstance(plan, Plan) and plan.stages >= 2
            tile = 2 * plan.keys * D * 2
            assert plan.blocks_per_sm * plan.stages * tile < gpu.shared_bytes
            # what is under way while another tile is in use: see `decode_plan` for 36 KiB
            if gpu.compute_capability == (9, 0):
                assert plan.blocks_per_sm * (plan.stages - 1) * tile >= 64 * 1024


@pytest.mark.parametrize("num_blocks", [1, 8, 64, 512, 4096])
@pytest.mark.parametrize("width", [16, 512, 8192, 131072])
def test_splits_fill_the_gpu_and_are_long_enough(num_blocks, width):
    gpu = Gpu()
    plan = plan_for(*empty(SHAPE), gpu)
    assert isinstance(plan, Plan)

    splits = choose_splits(num_blocks, width, plan, gpu)

    assert splits == 1 or width / splits > 64
    seats = gpu.num_sms * plan.blocks_per_sm
    assert num_blocks * splits >= seats or width / splits <= 128 or splits == 128
    assert splits == 1 or num_blocks * (splits - 1) < 4 * seats
