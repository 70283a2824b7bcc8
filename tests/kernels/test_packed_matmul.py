"""Products with packed weights, native and plain, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jpaged.weights.packed import PackedWeight, Rows, bind_rows
from pallas_kernels import native
from pallas_kernels.packed_matmul import (
    ACTIVATIONS,
    gated_matmul,
    pack,
    packed_matmuls,
    take_columns,
)
from pallas_kernels.packed_matmul.reference import unpack

# odd inner sizes leave half a word of bf16, odd outer ones a block that is not full
SHAPES = [(1, 1), (7, 5), (64, 64), (65, 130), (96, 517), (256, 100)]
TYPES = [jnp.float32, jnp.bfloat16]
# products are summed in float32: what is left is the rounding of inputs and result
CLOSE = {jnp.float32: 1e-5, jnp.bfloat16: 1e-2}


def matrix(shape: tuple[int, int], dtype, seed: int = 0) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0])
    return jnp.asarray(values, dtype)


@pytest.fixture(params=["native", "plain"])
def kind(request, monkeypatch):
    """Each test runs with the C++ kernels and without."""
    if request.param == "plain":
        monkeypatch.setattr(native, "is_available", lambda: False)
    elif not native.is_available():
        pytest.skip(f"no native kernels: {native.why_not()}")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_unpacking_gives_back_what_was_packed(shape, dtype):
    w = matrix(shape, dtype)

    back = unpack(pack(w), dtype)

    assert jnp.array_equal(back[: shape[0], : shape[1]], w)
    assert not back[shape[0] :].any() and not back[:, shape[1] :].any()


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 103])
def test_products_equal_those_in_float64(shape, rows, dtype):
    x, w = matrix((rows, shape[0]), dtype, seed=1), matrix(shape, dtype)
    want = np.asarray(x, np.float64) @ np.asarray(w, np.float64)

    (y,) = jax.jit(lambda x, words: packed_matmuls(x, [words], [shape[1]]))(x, pack(w))

    assert y.shape == (rows, shape[1]) and y.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(y, np.float64), want, atol=CLOSE[dtype], rtol=CLOSE[dtype]
    )


@pytest.mark.usefixtures("kind")
def test_a_bf16_product_can_stay_float32():
    x, w = matrix((9, 64), jnp.bfloat16, seed=1), matrix((64, 70), jnp.bfloat16)
    want = np.asarray(x, np.float64) @ np.asarray(w, np.float64)

    (y,) = packed_matmuls(x, [pack(w)], [70], jnp.float32)

    assert y.dtype == jnp.float32
    rounding = 1e-5 if native.is_available() else 1e-2  # plain XLA rounds to bf16 in between
    np.testing.assert_allclose(y, want, atol=rounding)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [1, 2, 8, 40])
def test_several_products_of_one_x_are_those_of_each_alone(rows, dtype):
    x = matrix((rows, 48), dtype, seed=1)
    weights = [pack(matrix((48, width), dtype, seed=width)) for width in (130, 64, 5)]
    together = jax.jit(lambda x, *words: packed_matmuls(x, words, [130, 64, 5]))(x, *weights)

    for y, words, width in zip(together, weights, (130, 64, 5), strict=True):
        (alone,) = packed_matmuls(x, [words], [width])
        np.testing.assert_array_equal(np.asarray(y), np.asarray(alone))


def activated(x: np.ndarray, activation: str) -> np.ndarray:
    if activation == "silu":
        return x / (1 + np.exp(-x))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 11, 103])
def test_gated_products_equal_those_in_float64(shape, rows, activation, dtype):
    x = 3 * matrix((rows, shape[0]), dtype, seed=1)
    gate, up = (matrix(shape, dtype, seed=seed) for seed in (2, 3))
    wide = [np.asarray(each, np.float64) for each in (x, gate, up)]
    want = activated(wide[0] @ wide[1], activation) * (wide[0] @ wide[2])

    y = jax.jit(lambda x, g, u: gated_matmul(x, g, u, shape[1], activation))(
        x, pack(gate), pack(up)
    )

    assert y.shape == want.shape and y.dtype == dtype
    close = 2 * CLOSE[dtype]
    np.testing.assert_allclose(np.asarray(y, np.float64), want, atol=close, rtol=close)


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("num_rows", [0, 1, 5, 9, 100])
def test_rows_that_are_padding_may_be_left_out(num_rows):
    x, w = matrix((9, 64), jnp.float32, seed=1), matrix((64, 70), jnp.float32)
    count = jnp.int32(num_rows)

    (y,) = packed_matmuls(x, [pack(w)], [70], num_rows=count)
    gated = gated_matmul(x, pack(w), pack(w), 70, "silu", num_rows=count)

    np.testing.assert_allclose(y[:num_rows], (x @ w)[:num_rows], atol=1e-5)
    want = (jax.nn.silu(x @ w) * (x @ w))[:num_rows]
    np.testing.assert_allclose(gated[:num_rows], want, atol=1e-5)


@pytest.mark.parametrize("dtype", TYPES)
def test_columns_are_those_of_the_matrix(dtype):
    w = matrix((33, 200), dtype)
    ids = jnp.array([0, 199, 64, 63, 7])

    assert jnp.array_equal(take_columns(pack(w), ids, dtype)[:, :33], w.T[ids])


def test_a_packed_weight_is_a_small_tree_that_jit_takes():
    w = matrix((12, 20), jnp.float32)
    packed = PackedWeight.of(w)

    y = jax.jit(lambda p, x: p.matmul(x))(packed, jnp.eye(12))

    np.testing.assert_allclose(y, w, atol=1e-6)
    assert len(jax.tree.leaves(packed)) == 1 and packed.shape == (12, 20)


def test_a_weight_bound_to_a_step_knows_tokens_from_sequences():
    params = {"w": PackedWeight.of(matrix((12, 20), jnp.float32)), "b": jnp.zeros(3)}
    rows = Rows(jnp.int32(5), jnp.int32(2))

    bound = bind_rows(params, rows, step_tokens=16)

    assert bound["w"].num_rows(jnp.zeros((16, 12))) == 5
    assert bound["w"].num_rows(jnp.zeros((4, 12))) == 2
    assert params["w"].num_rows(jnp.zeros((4, 12))) is None
