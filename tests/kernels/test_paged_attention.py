"""Paged attention, in every implementation, against loops in float64 (`ragged.py`).

Every test writes the step's keys and values too, over pages that hold NaN wherever nobody has
written, and compares the pages afterwards bit by bit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import Ragged, Shape, attention, make_ragged, make_table

from pallas_kernels import native
from pallas_kernels.paged_attention import tiles, write_and_attend

ON_CPU = ("reference", "native")  # those for GPUs have tests of their own
# a prompt, a chunk of one, decodes of several lengths, and an empty row
MIXED = [(0, 17), (9, 15), (0, 1), (12, 1), (30, 3)]
DECODE = Shape(T=6, B=6)

# float32: sums of at most some hundred terms of order one, in another order than the oracle's
FLOAT32 = 1e-5
# bfloat16 keeps 8 bits: the result, and in a kernel each weight, is rounded by up to 2^-9
BFLOAT16 = 2e-2


def skip_without(implementation: str) -> None:
    if implementation == "native":
        if not native.is_available():
            pytest.skip(f"no native kernels: {native.why_not()}")
        if jax.default_backend() != "cpu":
            pytest.skip("the native kernels are the CPU's")


@pytest.fixture(params=ON_CPU)
def implementation(request) -> str:
    skip_without(request.param)
    return request.param


@partial(
    jax.jit,
    static_argnames=("scale", "window", "softcap", "implementation"),
    donate_argnames=("k_pages", "v_pages"),
)
def jitted(q, k, v, k_pages, v_pages, table, scale, window, softcap, sinks, implementation):
    options = {"scale": scale, "window": window, "softcap": softcap, "sinks": sinks}
    return write_and_attend(
        q, k, v, k_pages, v_pages, table, implementation=implementation, **options
    )


@jax.jit
def into_tiles(k_pages, v_pages):
    return tiles.keys_in_tiles(k_pages), tiles.values_in_tiles(v_pages)


@jax.jit
def from_tiles(k_pages, v_pages):
    return tiles.keys_from_tiles(k_pages), tiles.values_from_tiles(v_pages)


def new_tokens(batch: Ragged) -> tuple[jax.Array, jax.Array, jax.Array]:
    return jnp.array(batch.q), jnp.array(batch.k), jnp.array(batch.v)


def own_pages(batch: Ragged, implementation: str) -> tuple[jax.Array, jax.Array]:
    """A copy of the batch's pages, in the implementation's order."""
    pages = jnp.array(batch.k_pages), jnp.array(batch.v_pages)
    return into_tiles(*pages) if implementation == "native" else pages


def plain_pages(pages: Sequence[jax.Array], implementation: str) -> tuple[np.ndarray, np.ndarray]:
    """Undoes `own_pages`."""
    k_pages, v_pages = pages
    if implementation == "native":
        k_pages, v_pages = from_tiles(k_pages, v_pages)
    return np.asarray(k_pages), np.asarray(v_pages)


def run(
    batch: Ragged,
    implementation: str,
    window: int | None = None,
    softcap: float | None = None,
    sinks: np.ndarray | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """What it attends to, in float32, and the pages in plain order."""
    scale = 1 / math.sqrt(batch.shape.D)
    heads = None if sinks is None else jnp.asarray(sinks)
    arrays = (*new_tokens(batch), *own_pages(batch, implementation), batch.table)
    out, *pages = jitted(*arrays, scale, window, softcap, heads, implementation)
    assert out.dtype == batch.q.dtype
    return np.asarray(out.astype(jnp.float32)), plain_pages(pages, implementation)


def assert_near(out, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def assert_same_bits(pages: np.ndarray, expected: np.ndarray) -> None:
    assert pages.dtype == expected.dtype
    bits = f"uint{8 * pages.itemsize}"
    differs = pages.view(bits) != expected.view(bits)
    assert not differs.any(), f"at [page, head, offset, dim] {np.argwhere(differs)[:5].tolist()}"


def assert_written(batch: Ragged, pages: tuple[np.ndarray, np.ndarray]) -> None:
    """The new tokens are in their slots; every other element is as it was, NaN too."""
    for each, expected in zip(pages, batch.written(), strict=True):
        assert_same_bits(each, expected)


def tolerance_of(batch: Ragged) -> float:
    return BFLOAT16 if batch.q.dtype == "bfloat16" else FLOAT32


def check(batch: Ragged, implementation: str, **options) -> None:
    """Asserts that the kernel and the loops agree, and that it wrote what it should."""
    expected = attention(batch, 1 / math.sqrt(batch.shape.D), **options)
    out, pages = run(batch, implementation, **options)
    assert_near(out, expected, tolerance_of(batch))
    assert_written(batch, pages)


def assert_only_the_reference_serves(batch: Ragged) -> None:
    """Native refuses, and where nothing is forced the reference is picked."""
    check(batch, "reference")
    scale = 1 / math.sqrt(batch.shape.D)
    arrays = (*new_tokens(batch), *own_pages(batch, "reference"), batch.table)
    with pytest.raises(NotImplementedError, match="native"):
        write_and_attend(*arrays, scale=scale, implementation="native")
    out, *pages = jax.jit(partial(write_and_attend, scale=scale))(*arrays)
    assert_near(out, attention(batch, scale), tolerance_of(batch))
    assert_written(batch, plain_pages(pages, "reference"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("page_size", [16, 32, 48])
def test_it_is_attention_whatever_the_page_size(page_size, dtype, implementation):
    shape = Shape(S=page_size, N=-(-64 // page_size), dtype=dtype)

    check(make_ragged(shape, MIXED), implementation)


@pytest.mark.parametrize("page_size", [1, 4, 8, 24])
def test_pages_that_are_no_whole_tiles_are_the_references(page_size):
    shape = Shape(S=page_size, N=-(-64 // page_size))

    assert_only_the_reference_serves(make_ragged(shape, MIXED))


@pytest.mark.parametrize(
    ("heads", "kv_heads"),
    [(4, 4), (6, 2), (4, 1), (1, 1), (7, 1), (15, 3), (18, 2), (12, 1), (25, 1), (32, 1)],
)
def test_query_heads_share_kv_heads_in_order(heads, kv_heads, implementation):
    check(make_ragged(Shape(H=heads, K=kv_heads), MIXED), implementation)


@pytest.mark.parametrize("head_dim", [16, 48, 64, 80, 128, 256])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_head_dimensions(head_dim, dtype, implementation):
    check(make_ragged(Shape(D=head_dim, dtype=dtype), MIXED), implementation)


@pytest.mark.parametrize("head_dim", [2, 8, 40, 272])
def test_heads_that_are_no_whole_tiles_or_too_large_are_the_references(head_dim):
    assert_only_the_reference_serves(make_ragged(Shape(D=head_dim), MIXED))


def test_more_query_heads_than_native_takes_are_the_references():
    assert_only_the_reference_serves(make_ragged(Shape(H=33, K=1), MIXED))


def test_queries_over_pages_of_another_type_are_the_references():
    batch = make_ragged(Shape(), MIXED)
    keys = [each.astype("bfloat16") for each in batch.keys]
    values = [each.astype("bfloat16") for each in batch.values]
    k_pages, v_pages = batch.k_pages.astype("bfloat16"), batch.v_pages.astype("bfloat16")

    assert_only_the_reference_serves(
        replace(batch, keys=keys, values=values, k_pages=k_pages, v_pages=v_pages)
    )


def test_new_keys_and_values_are_rounded_to_the_type_of_the_pages(implementation):
    batch = make_ragged(Shape(dtype="bfloat16"), MIXED)
    noise = np.random.default_rng(1).normal(1, 1e-3, (2, *batch.k.shape))
    k, v = np.array([batch.k, batch.v], np.float32) * noise.astype(np.float32)
    wider = replace(batch, k=k, v=v)
    for row, (before, new) in enumerate(batch.spans):
        first = sum(new for _, new in batch.spans[:row])
        batch.keys[row][before:] = k[first : first + new]
        batch.values[row][before:] = v[first : first + new]

    assert (k != k.astype("bfloat16")).any()
    check(wider, implementation)


@pytest.mark.parametrize("shape", [Shape(), DECODE], ids=["mixed", "decode"])
def test_bfloat16(shape, implementation):
    spans = MIXED if shape.T > shape.B else [(length, 1) for length in (0, 3, 4, 40)]

    check(make_ragged(replace(shape, dtype="bfloat16"), spans), implementation)


@pytest.mark.parametrize("rows", [6, 3, 1], ids=["full", "half empty", "one"])
def test_a_decode_step(rows, implementation):
    lengths = [0, 3, 4, 5, 16, 62][-rows:]

    check(make_ragged(DECODE, [(length, 1) for length in lengths]), implementation)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("page_size", [16])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 48], ids=lambda n: f"{n} tokens")
@pytest.mark.parametrize("is_prompt", [True, False], ids=["prompt", "decode"])
def test_lengths_around_the_end_of_a_page(length, is_prompt, page_size, dtype, implementation):
    span = (0, length) if is_prompt else (length - 1, 1)
    shape = Shape(T=56, S=page_size, N=64 // page_size, dtype=dtype)

    check(make_ragged(shape, [span, (2, 2)]), implementation)


@pytest.mark.parametrize("length", [127, 128, 129, 255, 256, 257, 300, 511, 512, 513])
def test_sequences_longer_than_one_visit_to_the_cache(length, implementation):
    shape = Shape(T=24, B=3, N=33)

    check(make_ragged(shape, [(length - 5, 5), (0, 1), (length - 1, 1)]), implementation)


def test_a_chunk_that_begins_in_one_visit_and_ends_in_the_next(implementation):
    check(make_ragged(Shape(T=24, B=3, N=33), [(250, 12), (510, 9)]), implementation)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("page_size", [48, 256, 272], ids=lambda s: f"pages of {s}")
def test_pages_that_do_not_divide_a_visit(page_size, dtype, implementation):
    shape = Shape(T=24, B=3, N=-(-300 // page_size), S=page_size, dtype=dtype)

    check(make_ragged(shape, [(290, 5), (0, 9), (140, 1)]), implementation)


def test_small_pages_that_do_not_divide_a_visit():
    shape = Shape(T=24, B=3, N=100, S=3)

    assert_only_the_reference_serves(make_ragged(shape, [(290, 5), (0, 9), (140, 1)]))


@pytest.mark.parametrize("new", [5, 6, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33])
def test_chunks_around_the_size_of_a_tile(new, implementation):
    check(make_ragged(Shape(), [(3, 1), (5, new), (0, 2)]), implementation)


@pytest.mark.parametrize("window", [1, 3, 4, 9, 15, 16, 17, 33])
def test_a_sliding_window(window, implementation):
    check(make_ragged(Shape(), MIXED), implementation, window=window)


@pytest.mark.parametrize("window", [5, 16, 200, 256, 280])
def test_a_sliding_window_far_from_the_beginning(window, implementation):
    shape = Shape(T=24, B=3, N=20)

    check(make_ragged(shape, [(280, 6), (0, 3), (299, 1)]), implementation, window=window)


def test_a_softcap(implementation):
    check(make_ragged(Shape(), MIXED), implementation, softcap=0.7)


@pytest.mark.parametrize("shape", [Shape(), DECODE], ids=["mixed", "decode"])
@pytest.mark.parametrize("size", [1, 20])
def test_sinks_take_a_share_of_each_heads_attention(shape, size, implementation):
    spans = MIXED if shape.T > shape.B else [(length, 1) for length in (0, 7, 50)]
    sinks = np.array([-3.0, 0.0, 1.5, 8.0], np.float32) * size

    check(make_ragged(shape, spans), implementation, sinks=sinks)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_window_softcap_and_sinks_together(dtype, implementation):
    sinks = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    batch = make_ragged(Shape(dtype=dtype), MIXED)

    check(batch, implementation, window=6, softcap=1.5, sinks=sinks)


def larger_queries(factor: float) -> Ragged:
    batch = make_ragged(Shape(), MIXED)
    for queries in (*batch.queries, batch.q):
        queries *= factor
    return batch


@pytest.mark.parametrize("factor", [30, 1000])
def test_large_scores_do_not_overflow(factor, implementation):
    batch = larger_queries(factor)

    # a score of order a hundred is off by 1e-5, and exp makes that a relative error
    expected = attention(batch, 1 / math.sqrt(batch.shape.D))
    out, pages = run(batch, implementation)
    assert_near(out, expected, 1e-3 * factor / 30)
    assert_written(batch, pages)


@pytest.mark.parametrize("factor", [30, 100, 1000, 1e6])
def test_large_scores_stay_under_a_softcap(factor, implementation):
    # scores of up to some thousand caps, where tanh is 1 or -1
    check(larger_queries(factor), implementation, softcap=2.0)


@pytest.mark.parametrize("unwritten", [np.nan, np.inf, -np.inf, 2.0**127])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_what_nobody_has_written_is_never_read(unwritten, dtype, softcap, implementation):
    batch = make_ragged(Shape(dtype=dtype), MIXED, unwritten=unwritten)

    assert not (abs(batch.k_pages.astype(np.float32)) < 100).all()  # NaN is not below 100
    check(batch, implementation, softcap=softcap)


def test_the_pages_of_a_sequence_that_has_gone_are_overwritten(implementation):
    batch = make_ragged(Shape(), MIXED)
    rng = np.random.default_rng(1)
    for pages in (batch.k_pages, batch.v_pages):
        pages[np.isnan(pages)] = rng.normal(size=np.isnan(pages).sum())

    check(batch, implementation)


def test_one_sequences_nan_stays_its_own(implementation):
    batch = make_ragged(Shape(), MIXED)
    of_second = slice(MIXED[0][1], MIXED[0][1] + MIXED[1][1])
    for rows in (batch.q, batch.k, batch.v):
        rows[of_second] = np.nan

    out, pages = run(batch, implementation)

    others = np.delete(np.arange(batch.shape.T), of_second)
    assert_near(out[others], attention(batch, 0.25)[others], FLOAT32)
    assert_written(batch, pages)


@pytest.mark.parametrize("shape", [Shape(), DECODE], ids=["mixed", "decode"])
def test_padding_tokens_come_back_as_zeros(shape, implementation):
    batch = make_ragged(shape, [(5, 1), (0, 1)])

    out, _ = run(batch, implementation)

    assert out[:2].any(axis=(1, 2)).all()
    assert not out[2:].any()


@pytest.mark.parametrize("slot", ["the first behind", "far behind", "the last there is"])
def test_padding_tokens_are_written_nowhere(slot, implementation):
    batch = make_ragged(Shape(), [(5, 1), (17, 4)])
    num_slots = len(batch.k_pages) * batch.shape.S
    at = {"the first behind": 0, "far behind": 12345, "the last there is": 2**31 - 1 - num_slots}
    slots = batch.table.write_slots.at[5:].set(num_slots + at[slot])

    assert np.isfinite(batch.k[5:]).all()
    check(replace(batch, table=batch.table._replace(write_slots=slots)), implementation)


def test_an_empty_step_comes_back_as_zeros_and_writes_nothing(implementation):
    batch = make_ragged(Shape(), [(0, 0)])

    out, pages = run(batch, implementation)

    assert not out.any()
    assert all(np.isnan(each).all() for each in pages)


def test_sequences_may_share_the_pages_of_a_common_prefix(implementation):
    batch = make_ragged(Shape(), [(32, 3), (32, 5)])
    table = batch.table
    shared = table._replace(pages=table.pages.at[1, :2].set(table.pages[0, :2]))
    for own in (batch.keys, batch.values):
        own[1][:32] = own[0][:32]

    check(replace(batch, table=shared), implementation)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_find_what_earlier_steps_wrote(dtype, implementation):
    shape, lengths = Shape(T=9, B=2, dtype=dtype), (40, 23)
    whole = make_ragged(replace(shape, T=63), [(0, length) for length in lengths])
    expected = attention(whole, 0.25)
    pages, done = own_pages(whole, implementation), [0, 0]
    for news in [(7, 2), (1, 1), (0, 9), (9, 0), (2, 7), (1, 1), (7, 1), (7, 1), (6, 1)]:
        spans = list(zip(done, news, strict=True))
        table = make_table(shape, spans, np.asarray(whole.table.pages), len(whole.k_pages))
        # where the step's tokens stand in the whole; padding repeats the first
        firsts = [done[0], lengths[0] + done[1]]
        places = [first + i for first, new in zip(firsts, news, strict=True) for i in range(new)]
        rows = np.array(places + [0] * (shape.T - len(places)))
        tokens = [jnp.array(each[rows]) for each in (whole.q, whole.k, whole.v)]
        out, *pages = jitted(*tokens, *pages, table, 0.25, None, None, None, implementation)
        out = np.asarray(out.astype(jnp.float32))[: len(places)]
        assert_near(out, expected[places], tolerance_of(whole))
        done = [before + new for before, new in spans]

    assert done == list(lengths)
    assert_written(whole, plain_pages(pages, implementation))


def test_pages_that_are_not_donated_stay_as_they_were(implementation):
    batch = make_ragged(Shape(), MIXED)
    before = own_pages(batch, implementation)
    function = partial(write_and_attend, scale=0.25, implementation=implementation)

    out, *after = jax.jit(function)(*new_tokens(batch), *before, batch.table)

    assert_near(out, attention(batch, 0.25), FLOAT32)
    assert_written(batch, plain_pages(after, implementation))
    unchanged = plain_pages(before, implementation)
    assert_same_bits(unchanged[0], batch.k_pages)
    assert_same_bits(unchanged[1], batch.v_pages)


def test_donated_pages_are_written_in_place(implementation):
    batch = make_ragged(Shape(), MIXED)
    before = own_pages(batch, implementation)
    places = [each.unsafe_buffer_pointer() for each in before]
    arrays = (*new_tokens(batch), *before, batch.table)

    _, *after = jitted(*arrays, 0.25, None, None, None, implementation)

    assert all(each.is_deleted() for each in before)
    assert [each.unsafe_buffer_pointer() for each in after] == places


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("window", [None, 7])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(spans=random_spans(), seed=st.integers(0, 2**16))
def test_any_ragged_batch_is_attention(window, dtype, spans, seed):
    for name in ON_CPU:
        if name != "native" or native.is_available() and jax.default_backend() == "cpu":
            check(make_ragged(Shape(dtype=dtype), spans, seed), name, window=window)


def test_none_picks_an_implementation_that_serves():
    batch = make_ragged(Shape(), MIXED)
    is_native = native.is_available() and jax.default_backend() == "cpu"
    picked = "native" if is_native else "reference"
    arrays = (*new_tokens(batch), *own_pages(batch, picked), batch.table)

    out, *pages = jax.jit(partial(write_and_attend, scale=0.25))(*arrays)

    assert_near(out, attention(batch, 0.25), FLOAT32)
    assert_written(batch, plain_pages(pages, picked))


def test_an_unknown_implementation_is_refused_with_the_known_ones():
    batch = make_ragged(Shape(), [(0, 1)])
    arrays = (*new_tokens(batch), *own_pages(batch, "reference"), batch.table)

    with pytest.raises(NotImplementedError, match="'cuda'.*reference"):
        write_and_attend(*arrays, scale=1.0, implementation="cuda")
