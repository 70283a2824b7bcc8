"""The packed layout in plain XLA: it defines what the C++ reads."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt32

COLUMNS = 64  # of a block: kColumns in matmul.cc


def pack(w: Float[Array, "I O"]) -> UInt32[Array, "B W 64"]:
    """bf16 or f32, any shape."""
    per_word = 4 // w.dtype.itemsize
    w = jnp.pad(w, ((0, -w.shape[0] % per_word), (0, -w.shape[1] % COLUMNS)))
    pairs = w.reshape(w.shape[0] // per_word, per_word, -1, COLUMNS).transpose(2, 0, 3, 1)
    return lax.bitcast_convert_type(pairs if per_word == 2 else pairs[..., 0], jnp.uint32)


def unpack(words: UInt32[Array, "B W 64"], dtype: DTypeLike) -> Float[Array, "I O"]:
    """What `pack` took, with its zeros."""
    pairs = _elements(words, dtype)
    blocks, num_words, columns, per_word = pairs.shape
    return pairs.transpose(1, 3, 0, 2).reshape(num_words * per_word, blocks * columns)


def take_columns(
    words: UInt32[Array, "B W 64"], columns: Int[Array, " T"], dtype: DTypeLike
) -> Float[Array, "T I"]:
    """Whole columns of w, as rows: a tied embedding reads its vectors from the packed head."""
    found = words[columns // COLUMNS, :, columns % COLUMNS]
    return _elements(found, dtype).reshape(columns.shape[0], -1)


def _elements(words: jax.Array, dtype: DTypeLike) -> jax.Array:
    """A last axis with a word's elements, low bits first."""
    out = lax.bitcast_convert_type(words, dtype)
    return out if jnp.dtype(dtype).itemsize == 2 else out[..., None]


def gate_up(
    x: Float[Array, "T I"], gate: Float[Array, "I O"], up: Float[Array, "I O"], activation: str
) -> Float[Array, "T O"]:
    """What `gated_matmul` computes, of weights that are not packed."""
    act = {"silu": jax.nn.silu, "gelu_tanh": partial(jax.nn.gelu, approximate=True)}[activation]
    wide = partial(jnp.matmul, preferred_element_type=jnp.float32)
    return (act(wide(x, gate)) * wide(x, up)).astype(x.dtype)
