"""Writing keys and values into pages, in every implementation, against loops in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import triton_interpreter
from aot import TARGETS, compile_for, needs_aot
from triton_interpreter import launch

from pallas_kernels import kv_write, triton_call
from pallas_kernels.kv_write import triton_write
from pallas_kernels.kv_write.reference import largest_of

P, K, S = 7, 3, 8
LARGEST = {"int8": 127, "float8_e4m3fn": 448, "float8_e5m2": 57344}


@pytest.fixture(params=kv_write.IMPLEMENTATIONS)
def write(request):
    if request.param == "reference":
        return kv_write.write
    if reason := triton_interpreter.why_not():
        pytest.skip(reason)

    def write(*arrays, **scales):
        return launch(partial(kv_write.write, implementation="triton", **scales), *arrays)

    return write


def random_step(T: int, D: int, new: str, pages: str, seed: int = 0):
    """k and v, pages that hold NaN where they can, and T different slots."""
    rng = np.random.default_rng(seed)
    k, v = (jnp.asarray(rng.normal(size=(T, K, D)) * 3, new) for _ in range(2))
    before = [np.full((P, K, S, D), 0 if pages == "int8" else np.nan).astype(pages)] * 2
    slots = rng.permutation(P * S)[:T].astype(np.int32)
    return k, v, before, slots


def expected(new, pages: np.ndarray, slots: np.ndarray, scale: np.ndarray | None = None):
    """Pages with each token's row where its slot says, and all else as it was."""
    after = pages.copy()
    for token, slot in enumerate(slots):
        if slot < P * S:
            row = np.asarray(new[token], np.float32)
            if scale is not None:
                row = row / scale[:, None]
                row = np.clip(row, -LARGEST[str(pages.dtype)], LARGEST[str(pages.dtype)])
                row = np.rint(row) if pages.dtype == np.int8 else row
            after[slot // S, :, slot % S] = row.astype(pages.dtype)
    return after


def assert_same_bits(actual: jax.Array, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype
    bits = f"uint{8 * expected.itemsize}"
    np.testing.assert_array_equal(np.asarray(actual).view(bits), expected.view(bits))


@pytest.mark.parametrize("D", [64, 80, 256])
@pytest.mark.parametrize(("new", "pages"), [("float32", "float32"), ("float16", "float32")])
def test_tokens_go_to_their_slots_and_nothing_else_changes(D, new, pages, write):
    k, v, before, slots = random_step(29, D, new, pages)

    after = write(k, v, *map(jnp.asarray, before), jnp.asarray(slots))

    for each, rows in zip(after, (k, v), strict=True):
        assert_same_bits(each, expected(rows, before[0], slots))


@pytest.mark.parametrize("past", [0, 1, 12345, 2**31 - 1 - P * S])
def test_padding_is_written_nowhere(past, write):
    k, v, before, slots = random_step(9, 64, "float32", "float32")
    slots[4:] = P * S + past

    after = write(k, v, *map(jnp.asarray, before), jnp.asarray(slots))

    for each, rows in zip(after, (k, v), strict=True):
        assert_same_bits(each, expected(rows, before[0], slots))


def test_a_step_of_padding_changes_nothing(write):
    k, v, before, slots = random_step(3, 64, "float32", "float32")

    after = write(k, v, *map(jnp.asarray, before), jnp.full_like(slots, P * S))

    for each in after:
        assert_same_bits(each, before[0])


def test_int8_pages_get_rounded_shares_of_the_scale(write):
    k, v, before, slots = random_step(11, 64, "float32", "int8")
    k = k.at[0, 0, 0].set(0.75).at[0, 0, 1].set(1.25)  # 1.5 and 2.5 scales: both are 2
    scale = np.array([0.5, 0.25, 2**-7], np.float32)  # with the last, most is out of range

    after = write(
        k,
        v,
        *map(jnp.asarray, before),
        jnp.asarray(slots),
        k_scale=jnp.asarray(scale),
        v_scale=jnp.asarray(scale[::-1]),
    )

    assert_same_bits(after[0], expected(k, before[0], slots, scale))
    assert_same_bits(after[1], expected(v, before[1], slots, scale[::-1]))
    assert set(np.asarray(after[0])[slots[0] // S, 0, slots[0] % S, :2].tolist()) == {2}
    assert np.abs(np.asarray(after[0])).max() == 127


# the interpreter cuts digits off instead of rounding; on a GPU it is cvt.rn
@pytest.mark.parametrize("pages", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_pages_get_rounded_shares_of_the_scale(pages):
    k, v, before, slots = random_step(11, 64, "float32", pages)
    scale = np.array([0.5, 0.25, 2**-18], np.float32)

    arrays = [k, v, *map(jnp.asarray, before), jnp.asarray(slots)]
    scales = {"k_scale": jnp.asarray(scale), "v_scale": jnp.asarray(scale[::-1])}
    after = kv_write.write(*arrays, **scales)

    # XLA may write a NaN with other bits
    k_pages, v_pages = (np.asarray(each, np.float32) for each in after)
    np.testing.assert_array_equal(k_pages, expected(k, before[0], slots, scale).astype(np.float32))
    scale = scale[::-1]
    np.testing.assert_array_equal(v_pages, expected(v, before[1], slots, scale).astype(np.float32))
    assert np.abs(np.nan_to_num(k_pages)).max() == LARGEST[pages]


@pytest.mark.parametrize("dtype", LARGEST)
def test_the_largest_numbers_of_small_types(dtype):
    assert largest_of(jnp.dtype(dtype)) == LARGEST[dtype]


def test_an_unknown_implementation_is_refused_with_the_known_ones():
    k, v, before, slots = random_step(3, 64, "float32", "float32")
    arrays = [k, v, *map(jnp.asarray, before), jnp.asarray(slots)]

    with pytest.raises(NotImplementedError, match="'cuda'.*reference, triton"):
        kv_write.write(*arrays, implementation="cuda")


def test_what_the_triton_kernel_cannot_write_is_said_with_the_numbers(monkeypatch):
    monkeypatch.setattr(triton_call, "why_not", lambda: None)
    k, pages = jnp.zeros((1, K, 64), jnp.bfloat16), jnp.zeros((P, K, S, 64), jnp.float8_e4m3fn)

    assert triton_write.why_not(k, pages, (9, 0)) is None
    assert "sm_80" in str(triton_write.why_not(k, pages, (8, 0)))
    assert "sm_75" in str(triton_write.why_not(k, k, (7, 5)))
    assert "int32" in str(triton_write.why_not(k.astype(jnp.int32), pages, (9, 0)))


@needs_aot
@pytest.mark.parametrize("target", ["a100", "h200"])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "float8_e4m3fn"])
def test_donated_pages_are_not_copied_on_a_gpu(target, dtype):
    k, k_pages = jnp.zeros((1, 8, 128), jnp.bfloat16), jnp.zeros((1, 8, 16, 128), dtype)
    capability = TARGETS[target].compute_capability
    for implementation in kv_write.IMPLEMENTATIONS:
        if implementation == "triton" and triton_write.why_not(k, k_pages, capability):
            continue
        report = compile_for(
            target, "triton_cases:kv_write_case", implementation=implementation, dtype=dtype
        )

        pages = 2 * 4096 * 8 * 16 * 128 * jnp.dtype(dtype).itemsize
        assert report.alias_bytes == pages
        assert report.temp_bytes < 2**20 and report.spilled_bytes == 0
