"""The Mosaic prompt kernel, in Pallas's interpreter, against loops in float64 (`ragged.py`).

The interpreter runs its three warpgroups as threads, with their copies and barriers, and looks
for races.  It knows neither layouts nor wgmma, which is replaced by a product of the same
operands; these are compiled in `test_mosaic_prefill_compiled.py`.
"""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks  # the races have no public name
from jax.experimental.pallas import mosaic_gpu as plgpu
from ragged import Ragged, Shape, attention_and_lse, make_ragged

from pallas_kernels.paged_attention.mosaic_prefill import prefill, why_not

# a chunk that begins within a tile of queries, and one that another sequence shares its tile with
SHAPE = Shape(T=48, B=3, N=32, H=4, K=1, D=64, dtype="bfloat16")
CHUNKS = [(295, 5), (100, 30), (0, 9)]
LONG = Shape(T=40, B=2, S=128, N=7, H=4, K=1, D=64, dtype="bfloat16")
# bfloat16 keeps 8 bits: the result and each weight are rounded by up to 2^-9
BFLOAT16 = 1e-2
FLOAT16 = 2e-3


@functools.cache
def jitted(**options):
    interpret = plgpu.InterpretGPUParams(detect_races=True)
    return jax.jit(functools.partial(prefill, interpret=interpret, **options))


def run(batch: Ragged, alibi: np.ndarray | None = None, **options) -> tuple[np.ndarray, np.ndarray]:
    arrays = [jnp.asarray(each) for each in (batch.q, *batch.written())]
    slopes = None if alibi is None else jnp.asarray(alibi, jnp.float32)
    out, lse = jitted(**options)(*arrays, batch.table, alibi=slopes)
    assert out.dtype == batch.q.dtype and lse.dtype == jnp.float32
    assert not gpu_callbacks.get_races().races_found
    return np.asarray(out.astype(jnp.float32)), np.asarray(lse)


def assert_near(batch: Ragged, got, expected) -> None:
    (out, lse), (expected_out, expected_lse) = got, expected
    tolerance = FLOAT16 if batch.q.dtype == np.float16 else BFLOAT16
    np.testing.assert_allclose(out, expected_out, rtol=tolerance, atol=tolerance)
    # keys and queries are as they are, and sums are float32; an exponential keeps 2^-22
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-4, atol=1e-4)


def check(batch: Ragged, **options) -> None:
    """Asserts that kernel and loops agree, on the result and on its log-sum-exp."""
    scale = 1 / math.sqrt(batch.shape.D)

    got = run(batch, scale=scale, **options)

    assert_near(batch, got, attention_and_lse(batch, scale, **options))


@pytest.mark.parametrize("page_size", [8, pytest.param(64, marks=pytest.mark.slow), 128])
def test_it_is_attention_whatever_the_page_size(page_size):
    check(make_ragged(replace(SHAPE, S=page_size, N=512 // page_size), CHUNKS))


@pytest.mark.parametrize(
    "head_dim",
    [pytest.param(80, marks=pytest.mark.slow), pytest.param(96, marks=pytest.mark.slow), 128, 256],
)
def test_head_dimensions(head_dim):
    check(make_ragged(replace(SHAPE, D=head_dim), CHUNKS))


def test_a_page_that_is_larger_than_a_tile_is_cut():
    check(make_ragged(replace(LONG, D=256), [(0, 10), (330, 20)]))


@pytest.mark.parametrize(
    ("heads", "kv_heads"),
    [
        (2, 2),
        *[pytest.param(*x, marks=pytest.mark.slow) for x in [(6, 1), (16, 1), (64, 1), (7, 1)]],
    ],
)
def test_query_heads_share_kv_heads_in_order(heads, kv_heads):
    check(make_ragged(replace(SHAPE, H=heads, K=kv_heads, T=24), [(130, 7), (3, 10)]))


def test_float16():
    check(make_ragged(replace(SHAPE, dtype="float16"), CHUNKS))


def test_a_prompt_with_full_tiles_on_both_sides_of_a_kv_tile():
    check(make_ragged(replace(SHAPE, T=160, B=2), [(0, 154)]))


def test_stages_are_filled_anew_many_times():
    check(make_ragged(LONG, [(800, 30), (500, 3)]))


@pytest.mark.parametrize(
    "window",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow), 200],
)
def test_a_sliding_window(window):
    check(make_ragged(LONG, [(700, 30), (90, 10)]), window=window)


def test_pages_before_the_window_are_not_read():
    batch = make_ragged(replace(SHAPE, N=64), [(600, 20), (5, 9)])
    window, scale = 40, 1 / math.sqrt(batch.shape.D)
    expected = attention_and_lse(batch, scale, window=window)
    unseen = (600 - window + 1) // batch.shape.S
    for page in np.asarray(batch.table.pages)[0, :unseen]:
        batch.k_pages[page] = batch.v_pages[page] = np.nan

    assert unseen > 30
    assert_near(batch, run(batch, scale=scale, window=window), expected)


@pytest.mark.parametrize("softcap", [0.5, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_softcap(softcap):
    check(make_ragged(SHAPE, CHUNKS), softcap=softcap)


def test_alibi_comes_after_the_softcap():
    check(make_ragged(SHAPE, CHUNKS), alibi=np.array([0.5, 0.1, 0.02, 0.0]), softcap=3.0)


@pytest.mark.parametrize("window", [pytest.param(None, marks=pytest.mark.slow), 120])
def test_without_causality_all_keys_are_seen(window):
    check(make_ragged(SHAPE, CHUNKS), causal=False, window=window)


def test_large_scores():
    batch = make_ragged(SHAPE, CHUNKS)
    batch.q[:] = batch.q * 100

    check(batch)


def test_sequences_with_too_few_queries_are_left_out():
    batch = make_ragged(SHAPE, [(200, 1), (100, 30), (3, 1)])
    scale = 1 / math.sqrt(batch.shape.D)
    expected, expected_lse = attention_and_lse(batch, scale)
    expected[[0, 31]], expected_lse[[0, 31]] = 0, -np.inf

    got = run(batch, scale=scale, least_queries=2)

    assert_near(batch, got, (expected, expected_lse))


@pytest.mark.parametrize("shape", [replace(SHAPE, T=3, B=1)], ids=str)
def test_steps_that_are_smaller_than_a_tile(shape):
    check(make_ragged(shape, [(5, 3)]))


@pytest.mark.slow
def test_a_step_of_padding_alone():
    out, lse = run(make_ragged(SHAPE, []), scale=1.0)

    assert not out.any() and (lse == -np.inf).all()


@pytest.mark.parametrize(
    ("q", "pages", "capability", "reason"),
    [
        ("bfloat16", "bfloat16", (8, 0), "wgmma, which sm_90 has and sm_80 has not"),
        ("bfloat16", "bfloat16", (10, 0), "sm_100 has not"),
        ("float32", "float32", (9, 0), "not float32 over float32"),
        ("bfloat16", "float8_e4m3fn", (9, 0), "not bfloat16 over float8_e4m3fn"),
    ],
)
def test_what_it_cannot_serve_it_refuses(q, pages, capability, reason):
    pool = jnp.zeros((1, 2, 16, 64), pages)

    assert reason in (why_not(jnp.zeros((8, 4, 64), q), pool, capability) or "served")


@pytest.mark.parametrize(("head_dim", "page_size"), [(72, 16), (64, 24), (512, 16)])
def test_odd_shapes_are_refused_with_their_numbers(head_dim, page_size):
    q, pool = jnp.zeros((8, 4, head_dim), "bfloat16"), jnp.zeros((1, 2, page_size, head_dim))
    reason = why_not(q, pool.astype("bfloat16"), (9, 0)) or "served"

    assert f"not head_dim {head_dim}, page_size {page_size} and 4 heads over 2" in reason
