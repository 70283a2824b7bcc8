"""Paged attention, in every implementation, against loops in float64 (`ragged.py`)."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import Ragged, Shape, attention, make_ragged

from pallas_kernels.paged_attention import IMPLEMENTATIONS, paged_attention

# a prompt, a chunk of one, decodes of several lengths, and an empty row
MIXED = [(0, 17), (9, 15), (0, 1), (12, 1), (30, 3)]
DECODE = Shape(T=6, B=6)

# float32: sums of at most some hundred terms of order one, in another order than the oracle's
FLOAT32 = 1e-5
# bfloat16 keeps 8 bits: the result, and in a kernel each weight, is rounded by up to 2^-9
BFLOAT16 = 2e-2


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request) -> str:
    return request.param


@partial(jax.jit, static_argnames=("scale", "window", "softcap", "implementation"))
def jitted(q, k_pages, v_pages, table, scale, window, softcap, sinks, implementation):
    return paged_attention(
        q,
        k_pages,
        v_pages,
        table,
        scale=scale,
        window=window,
        softcap=softcap,
        sinks=sinks,
        implementation=implementation,
    )


def attend(
    batch: Ragged,
    implementation: str,
    window: int | None = None,
    softcap: float | None = None,
    sinks: np.ndarray | None = None,
) -> np.ndarray:
    """The kernel's answer, in float32."""
    arrays = (jnp.asarray(each) for each in (batch.q, batch.k_pages, batch.v_pages))
    scale = 1 / math.sqrt(batch.shape.D)
    heads = None if sinks is None else jnp.asarray(sinks)
    out = jitted(*arrays, batch.table, scale, window, softcap, heads, implementation)
    assert out.dtype == batch.shape.dtype
    return np.asarray(out.astype(jnp.float32))


def assert_near(out, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def check(batch: Ragged, implementation: str, **options) -> None:
    """Asserts that the kernel and the loops agree."""
    tolerance = BFLOAT16 if batch.shape.dtype == "bfloat16" else FLOAT32
    expected = attention(batch, 1 / math.sqrt(batch.shape.D), **options)
    assert_near(attend(batch, implementation, **options), expected, tolerance)


@pytest.mark.parametrize("page_size", [1, 4, 8, 16])
def test_it_is_attention_whatever_the_page_size(page_size, implementation):
    shape = Shape(S=page_size, N=-(-64 // page_size))

    check(make_ragged(shape, MIXED), implementation)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (4, 1), (1, 1)])
def test_query_heads_share_kv_heads_in_order(heads, kv_heads, implementation):
    check(make_ragged(Shape(H=heads, K=kv_heads), MIXED), implementation)


@pytest.mark.parametrize("head_dim", [8, 80, 128])
def test_head_dimensions(head_dim, implementation):
    check(make_ragged(Shape(D=head_dim), MIXED), implementation)


@pytest.mark.parametrize("shape", [Shape(), DECODE], ids=["mixed", "decode"])
def test_bfloat16(shape, implementation):
    spans = MIXED if shape.T > shape.B else [(length, 1) for length in (0, 3, 4, 40)]

    check(make_ragged(replace(shape, dtype="bfloat16"), spans), implementation)


@pytest.mark.parametrize("rows", [6, 3, 1], ids=["full", "half empty", "one"])
def test_a_decode_step(rows, implementation):
    lengths = [0, 3, 4, 5, 16, 62][-rows:]

    check(make_ragged(DECODE, [(length, 1) for length in lengths]), implementation)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 7, 8, 9], ids=lambda n: f"{n} tokens")
@pytest.mark.parametrize("is_prompt", [True, False], ids=["prompt", "decode"])
def test_lengths_around_the_end_of_a_page(length, is_prompt, implementation):
    span = (0, length) if is_prompt else (length - 1, 1)

    check(make_ragged(Shape(S=4), [span, (2, 2)]), implementation)


@pytest.mark.parametrize("length", [127, 128, 129, 255, 256, 257, 300])
def test_sequences_longer_than_one_visit_to_the_cache(length, implementation):
    shape = Shape(T=24, B=3, N=20, S=16)

    check(make_ragged(shape, [(length - 5, 5), (0, 1), (length - 1, 1)]), implementation)


@pytest.mark.parametrize("page_size", [3, 256], ids=lambda s: f"pages of {s}")
def test_pages_that_do_not_divide_a_visit(page_size, implementation):
    shape = Shape(T=24, B=3, N=-(-300 // page_size), S=page_size)

    check(make_ragged(shape, [(290, 5), (0, 9), (140, 1)]), implementation)


@pytest.mark.parametrize("new", [15, 16, 17, 31, 32, 33])
def test_chunks_around_the_size_of_a_tile(new, implementation):
    check(make_ragged(Shape(), [(3, 1), (5, new), (0, 2)]), implementation)


@pytest.mark.parametrize("window", [1, 3, 4, 9])
def test_a_sliding_window(window, implementation):
    check(make_ragged(Shape(S=4), MIXED), implementation, window=window)


@pytest.mark.parametrize("window", [5, 200])
def test_a_sliding_window_far_from_the_beginning(window, implementation):
    shape = Shape(T=24, B=3, N=20, S=16)

    check(make_ragged(shape, [(280, 6), (0, 3), (299, 1)]), implementation, window=window)


def test_a_softcap(implementation):
    check(make_ragged(Shape(), MIXED), implementation, softcap=0.7)


@pytest.mark.parametrize("shape", [Shape(), DECODE], ids=["mixed", "decode"])
def test_sinks_take_a_share_of_each_heads_attention(shape, implementation):
    spans = MIXED if shape.T > shape.B else [(length, 1) for length in (0, 7, 50)]
    sinks = np.array([-3.0, 0.0, 1.5, 8.0], np.float32)

    check(make_ragged(shape, spans), implementation, sinks=sinks)


def test_window_softcap_and_sinks_together(implementation):
    sinks = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    batch = make_ragged(Shape(), MIXED)

    check(batch, implementation, window=6, softcap=1.5, sinks=sinks)


def test_large_scores_do_not_overflow(implementation):
    batch = make_ragged(Shape(), MIXED)
    for queries in (*batch.queries, batch.q):
        queries *= 30

    # a score of order a hundred is off by 1e-5, and exp makes that a relative error
    expected = attention(batch, 1 / math.sqrt(batch.shape.D))
    assert_near(attend(batch, implementation), expected, 1e-3)


def test_what_nobody_has_written_is_never_read(implementation):
    batch = make_ragged(Shape(), MIXED)

    out = attend(batch, implementation)

    assert np.isnan(batch.k_pages).any() and np.isnan(batch.v_pages).any()
    assert np.isfinite(out).all()


@pytest.mark.parametrize("shape", [Shape(), DECODE], ids=["mixed", "decode"])
def test_padding_tokens_come_back_as_zeros(shape, implementation):
    batch = make_ragged(shape, [(5, 1), (0, 1)])

    out = attend(batch, implementation)

    assert out[:2].any(axis=(1, 2)).all()
    assert not out[2:].any()


def test_an_empty_step_comes_back_as_zeros(implementation):
    batch = make_ragged(Shape(), [(0, 0)])

    assert not attend(batch, implementation).any()


def test_sequences_may_share_the_pages_of_a_common_prefix(implementation):
    batch = make_ragged(Shape(S=4), [(8, 3), (8, 5)])
    table = batch.table
    shared = table._replace(pages=table.pages.at[1, :2].set(table.pages[0, :2]))
    for own in (batch.keys, batch.values):
        own[1][:8] = own[0][:8]

    check(replace(batch, table=shared), implementation)


@st.composite
def random_spans(draw) -> list[tuple[int, int]]:
    """Up to six sequences of up to 64 tokens, up to 48 of which are new."""
    left, spans = 48, []
    for _ in range(draw(st.integers(1, 6))):
        new = draw(st.integers(0, min(left, 20)))
        before = draw(st.integers(0, 64 - new)) if new else 0
        spans.append((before, new))
        left -= new
    return spans


@pytest.mark.parametrize("window", [None, 7])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(spans=random_spans(), seed=st.integers(0, 2**16))
def test_any_ragged_batch_is_attention(window, spans, seed):
    for name in IMPLEMENTATIONS:
        check(make_ragged(Shape(), spans, seed), name, window=window)


def test_none_picks_an_implementation_that_serves():
    batch = make_ragged(Shape(), MIXED)
    arrays = (jnp.asarray(each) for each in (batch.q, batch.k_pages, batch.v_pages))

    out = jax.jit(partial(paged_attention, scale=0.25))(*arrays, batch.table)

    assert_near(out, attention(batch, 0.25), FLOAT32)


def test_an_unknown_implementation_is_refused_with_the_known_ones():
    batch = make_ragged(Shape(), [(0, 1)])
    q, k, v = (jnp.asarray(each) for each in (batch.q, batch.k_pages, batch.v_pages))

    with pytest.raises(NotImplementedError, match="'cuda'.*reference"):
        paged_attention(q, k, v, batch.table, scale=1.0, implementation="cuda")
