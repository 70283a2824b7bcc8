"""The Triton kernel for ragged batches, in Triton's interpreter, against float64.

The interpreter checks neither layouts nor limits of a GPU: those are compiled for, further down.
It multiplies no bfloat16, so float16 stands for it; what differs is one conversion.
"""

import math
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from aot import TARGETS, compile_for, needs_aot
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import INT8, Ragged, Shape, attention_and_lse, make_ragged
from triton_interpreter import launch, needs_triton

from pallas_kernels import gpu, triton_call
from pallas_kernels.paged_attention import triton_ragged
from pallas_kernels.paged_attention.triton_ragged import ragged

# a prompt of several pages, chunks, decodes of several lengths, and an empty row
SPANS = [(0, 37), (70, 20), (0, 1), (12, 1), (63, 1), (130, 3)]
SHAPE = Shape(T=70, B=7, N=9, D=64)

# float32: sums of some hundred terms of order one, in another order than the oracle's
FLOAT32 = 1e-5
# float16 keeps 11 bits: the result and each weight are rounded by up to 2^-12; bfloat16 keeps 8
TOLERANCES = {"float32": FLOAT32, "float16": 2e-3, "bfloat16": 2e-2}


def run(batch: Ragged, compute_capability=(9, 0), **options) -> tuple[np.ndarray, np.ndarray]:
    arrays = (jnp.asarray(batch.q), *map(jnp.asarray, batch.written()), batch.table)
    out, lse = launch(partial(ragged, **options), *arrays, compute_capability=compute_capability)
    assert out.dtype == batch.q.dtype and lse.dtype == jnp.float32
    return np.asarray(out, np.float64), np.asarray(lse, np.float64)


def check(batch: Ragged, compute_capability=(9, 0), scale: float | None = None, **options) -> None:
    scale = 1 / math.sqrt(batch.shape.D) if scale is None else scale
    expected_out, expected_lse = attention_and_lse(batch, scale, **options)
    if "alibi" in options:
        options["alibi"] = jnp.asarray(options["alibi"], jnp.float32)

    out, lse = run(batch, compute_capability, scale=scale, **options)

    tolerance = TOLERANCES[str(batch.q.dtype)]
    np.testing.assert_allclose(out, expected_out, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(lse, expected_lse, rtol=tolerance, atol=tolerance)


@needs_triton
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("page_size", [8, 16, 32, 64, 128])
def test_it_is_attention_whatever_the_page_size(page_size, dtype):
    check(make_ragged(replace(SHAPE, S=page_size, N=-(-144 // page_size), dtype=dtype), SPANS))


@needs_triton
@pytest.mark.parametrize("heads", [(1, 1), (6, 2), (7, 1), (48, 3), (64, 1)], ids=str)
def test_query_heads_share_kv_heads_in_order(heads):
    H, K = heads

    check(make_ragged(replace(SHAPE, H=H, K=K, dtype="float16"), SPANS))


@needs_triton
@pytest.mark.parametrize("head_dim", [8, 80, 96, 128, 256])
def test_head_dimensions(head_dim):
    check(make_ragged(replace(SHAPE, D=head_dim, dtype="float16"), SPANS))


@needs_triton
@pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 128])
def test_lengths_around_the_ends_of_pages_and_tiles(length):
    shape = replace(SHAPE, T=160, B=3, dtype="float16")

    check(make_ragged(shape, [(0, length), (length - 1, 1), (2, 2)]))


@needs_triton
@pytest.mark.parametrize("heads", [(4, 2), (40, 1)], ids=str)
def test_a_step_of_single_tokens(heads):
    H, K = heads
    shape = replace(SHAPE, T=7, H=H, K=K, dtype="float16")

    check(make_ragged(shape, [(length, 1) for length in (0, 15, 16, 63, 64, 130)]))


@needs_triton
@pytest.mark.parametrize("window", [1, 5, 16, 64, 100])
def test_a_sliding_window(window):
    check(make_ragged(SHAPE, SPANS), window=window)


@needs_triton
def test_pages_before_the_window_are_not_read():
    batch = make_ragged(replace(SHAPE, dtype="float16"), [(120, 5), (100, 1), (0, 9)])
    k_pages, v_pages = batch.written()
    pages = np.asarray(batch.table.pages)
    for each in (k_pages, v_pages):  # the first query of each sees from 111 and 91 on
        each[pages[0, : 111 // 16]] = each[pages[1, : 91 // 16]] = np.nan

    check(replace(batch, k_pages=k_pages, v_pages=v_pages), window=10)


@needs_triton
@pytest.mark.parametrize("size", [1, 1000])
def test_a_softcap(size):
    batch = make_ragged(SHAPE, SPANS)

    check(batch, softcap=1.5, scale=size / 8)


@needs_triton
def test_alibi_is_added_after_the_softcap():
    alibi = np.array([0.5, 0.25, 0.125, 0.0])

    check(make_ragged(SHAPE, SPANS), alibi=alibi)
    check(make_ragged(SHAPE, SPANS), alibi=alibi, softcap=1.5, window=33)


@needs_triton
@pytest.mark.parametrize("window", [None, 40])
def test_without_causality_a_query_sees_all_keys(window):
    alibi = np.array([0.05, 0.025, 0.0125, 0.0])

    check(make_ragged(SHAPE, SPANS), causal=False, window=window, alibi=alibi)


@needs_triton
def test_sequences_of_few_queries_are_left_to_others():
    batch = make_ragged(SHAPE, SPANS)
    expected_out, expected_lse = attention_and_lse(batch, 0.125)
    for least, others in ((2, slice(57, 60)), (4, slice(57, 63))):
        expected_out[others], expected_lse[others] = 0, -np.inf

        out, lse = run(batch, scale=0.125, least_queries=least)

        np.testing.assert_allclose(out, expected_out, rtol=FLOAT32, atol=FLOAT32)
        np.testing.assert_allclose(lse, expected_lse, rtol=FLOAT32, atol=FLOAT32)


@needs_triton
@pytest.mark.parametrize("unwritten", [np.nan, np.inf, -np.inf])
def test_what_nobody_has_written_is_never_read(unwritten):
    check(make_ragged(replace(SHAPE, dtype="float16"), SPANS, unwritten=unwritten))


@needs_triton
def test_one_sequences_nan_stays_its_own():
    batch = make_ragged(SHAPE, SPANS)
    for rows in (batch.q, batch.k, batch.v):
        rows[37:57] = np.nan

    out, lse = run(batch, scale=0.125)

    others = np.delete(np.arange(SHAPE.T), np.arange(37, 57))
    expected_out, expected_lse = attention_and_lse(make_ragged(SHAPE, SPANS), 0.125)
    np.testing.assert_allclose(out[others], expected_out[others], rtol=FLOAT32, atol=FLOAT32)
    np.testing.assert_allclose(lse[others], expected_lse[others], rtol=FLOAT32, atol=FLOAT32)


@needs_triton
def test_padding_is_zeros_and_an_empty_step_is_padding():
    for spans in ([(5, 1), (0, 40)], [(0, 0)]):
        num_tokens = sum(new for _, new in spans)

        out, lse = run(make_ragged(SHAPE, spans), scale=0.125)

        assert out[:num_tokens].any(2).all() and np.isfinite(lse[:num_tokens]).all()
        assert not out[num_tokens:].any() and np.isneginf(lse[num_tokens:]).all()


@needs_triton
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8"])
@pytest.mark.parametrize("compute_capability", [(8, 0), (9, 0)], ids=str)
def test_pages_of_other_types_are_converted(dtype, compute_capability):
    batch = make_ragged(replace(SHAPE, page_dtype=dtype), SPANS)

    check(batch, compute_capability, scale=0.125 / INT8 if dtype == "int8" else 0.125)


@needs_triton
@pytest.mark.gpu
@pytest.mark.parametrize("head_dim", [64, 80, 128, 256])
@pytest.mark.parametrize("options", [{}, {"window": 50, "softcap": 2.0}], ids=str)
def test_bfloat16_on_a_gpu(head_dim, options):
    batch = make_ragged(replace(SHAPE, D=head_dim, dtype="bfloat16"), SPANS)

    check(batch, gpu.compute_capability(), **options)


@needs_triton
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int8"])
def test_small_pages_become_bfloat16_on_a_gpu(dtype):
    batch = make_ragged(replace(SHAPE, dtype="bfloat16", page_dtype=dtype), SPANS)

    scale = 0.125 / INT8 if dtype == "int8" else 0.125
    check(batch, gpu.compute_capability(), scale=scale)


@needs_triton
@pytest.mark.parametrize("queries", ["float16", "float32"])
def test_each_of_float8s_numbers_is_converted_exactly_where_the_gpu_cannot(queries):
    """One key, so that the output is its value: all 256 numbers as values of 256 sequences."""
    numbers = np.arange(256, dtype=np.uint8).view(jnp.float8_e4m3fn)
    shape = Shape(T=4, B=4, N=1, S=8, H=1, K=1, D=64)
    batch = make_ragged(shape, [(0, 1)] * 4)
    own = np.asarray(batch.table.pages)[:, 0]
    k_pages = np.zeros(batch.k_pages.shape, numbers.dtype)
    v_pages = k_pages.copy()
    v_pages[own, 0, 0] = numbers.reshape(4, 64)
    slots = np.full_like(batch.table.write_slots, 2**20)  # they are written already
    table = batch.table._replace(write_slots=jnp.asarray(slots))
    q = batch.q.astype(queries)
    batch = replace(batch, q=q, k_pages=k_pages, v_pages=v_pages, table=table)

    out, _ = run(batch, (8, 0), scale=1.0)

    np.testing.assert_array_equal(out[:, 0], numbers.astype(np.float64).reshape(4, 64))


@st.composite
def steps(draw) -> tuple[Shape, list[tuple[int, int]]]:
    """Any heads, dims and pages, and up to five sequences of up to 150 tokens, 48 of them new."""
    left, spans = 48, []
    for _ in range(draw(st.integers(1, 5))):
        new = draw(st.integers(0, min(left, 30)))
        spans.append((draw(st.integers(0, 150 - new)) if new else 0, new))
        left -= new
    S = draw(st.sampled_from([8, 16, 32, 64, 128]))
    K, G = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3, 5, 8, 16]))
    D = draw(st.sampled_from([64, 72, 80]))
    return Shape(T=48, B=5, N=-(-150 // S), S=S, H=K * G, K=K, D=D), spans


@needs_triton
@settings(max_examples=15, deadline=None, derandomize=True)
@given(step=steps(), window=st.sampled_from([None, 3, 50]), causal=st.booleans())
def test_any_ragged_batch_is_attention(step, window, causal):
    check(make_ragged(*step), window=window, causal=causal)


def test_what_cannot_be_served_is_said_with_the_numbers(monkeypatch):
    monkeypatch.setattr(triton_call, "why_not", lambda: None)
    q, pages = jnp.zeros((4, 8, 64), jnp.bfloat16), jnp.zeros((3, 2, 16, 64), jnp.bfloat16)

    def why_not(q=q, pages=pages, capability=(8, 0)) -> str:
        return str(triton_ragged.why_not(q, pages, capability))

    assert triton_ragged.why_not(q, pages, (8, 0)) is None
    assert triton_ragged.why_not(q, pages.astype(jnp.float8_e4m3fn), (8, 0)) is None
    assert "sm_75" in why_not(capability=(7, 5))
    assert "not int32" in why_not(q=q.astype(jnp.int32))
    assert "int4" in why_not(pages=pages.astype(jnp.int4))
    assert "128, not 256" in why_not(q=jnp.zeros((4, 8, 256)))
    assert "32 float32 heads a kv head, not 66 over 2" in why_not(q=jnp.zeros((4, 66, 64)))
    assert "not 264" in why_not(q=jnp.zeros((4, 8, 264), jnp.bfloat16))
    assert "not 66" in why_not(q=jnp.zeros((4, 8, 66), jnp.bfloat16))
    assert "not 130 over 2" in why_not(q=jnp.zeros((4, 130, 64), jnp.bfloat16))


def test_a_missing_triton_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    q, pages = jnp.zeros((4, 8, 64), jnp.bfloat16), jnp.zeros((3, 2, 16, 64), jnp.bfloat16)

    assert "extras" in str(triton_ragged.why_not(q, pages, (9, 0)))


MODELS = {
    "llama": {},
    "phi": {"H": 32, "K": 32, "D": 96, "S": 32},
    "gemma": {"H": 8, "K": 4, "D": 256, "window": 1024, "softcap": 50.0},
    "bloom": {"H": 32, "K": 32, "D": 128, "with_alibi": True},
    "small": {"H": 14, "K": 2, "D": 64, "S": 64},
    "odd": {"H": 32, "K": 32, "D": 80, "S": 8},
    "decode": {"T": 64},
    "decode 256": {"T": 64, "H": 8, "K": 4, "D": 256},
    "fp8": {"pages": "float8_e4m3fn"},
    "e5m2": {"pages": "float8_e5m2"},
    "int8": {"pages": "int8"},
    "float16": {"dtype": "float16", "pages": "float16"},
    "float32": {"dtype": "float32", "pages": "float32"},
    "float32 G=32": {"dtype": "float32", "pages": "float32", "H": 32, "K": 1, "T": 64},
    "G=64": {"H": 64, "K": 1},
    "fp8 256": {"H": 8, "K": 4, "D": 256, "pages": "float8_e4m3fn", "softcap": 50.0},
}
QUICK = ("llama", "fp8")


@pytest.mark.skipif(triton_call.why_not() is not None, reason=triton_call.MISSING)
@needs_aot
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "model",
    [model if model in QUICK else pytest.param(model, marks=pytest.mark.slow) for model in MODELS],
)
def test_it_compiles_for_gpus_and_keeps_to_their_registers(model, target):
    report = compile_for(target, "triton_cases:ragged_case", **MODELS[model])

    (kernel,) = report.kernels
    shared = kernel.shared_bytes / 1024
    print(
        f"{model:12} {target} {kernel.registers} registers {report.spilled_bytes} B spilled ",
        end="",
    )
    print(f"{shared:.0f} KiB shared")
    # triton 3.7 and 3.9 spill nothing; 3.6 three registers in "fp8 256" on an A100
    assert report.spilled_bytes <= 24
    assert kernel.shared_bytes <= TARGETS[target].shared_kib * 1024
    assert report.temp_bytes < 64 * 1024  # the tiles, and no copy of pages
