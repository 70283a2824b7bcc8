"""x @ w for a w that was packed once into the order in which the CPU reads it.

    packed  u32[B, W, 64]    B blocks of 64 columns, W words of the inner axis

A word is one float32 or two neighbouring bfloat16 of the inner axis; what does not fill a word or a
block is zero.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt32

from pallas_kernels import native
from pallas_kernels.packed_matmul.reference import COLUMNS, gate_up, pack, take_columns, unpack

ACTIVATIONS = ("silu", "gelu_tanh")  # of `gated_matmul`


def packed_matmuls(
    x: Float[Array, "T I"],
    words: Sequence[UInt32[Array, "_ W 64"]],
    num_outs: Sequence[int],
    dtype: DTypeLike | None = None,
    num_rows: Int[Array, ""] | None = None,
) -> tuple[Float[Array, "T _"], ...]:
    """x @ w for up to eight w, summed in float32.

    x has w's type; the results have it too, or are float32.  From `num_rows` on, the rows of x are
    padding, and those of the results undefined.  Where there are no native kernels it unpacks w,
    which is correct and slow: pack for a CPU that has them.
    """
    dtype = x.dtype if dtype is None else dtype

    def plain(x: Array, *words: Array) -> tuple[Array, ...]:
        each = zip(words, num_outs, strict=True)
        return tuple((x @ unpack(w, x.dtype)[:, :n]).astype(dtype) for w, n in each)

    def fast(x: Array, *words: Array) -> tuple[Array, ...]:
        return native.packed_matmuls(x, words, num_outs, dtype, _count(x, num_rows))

    return _on_cpu(fast, plain, _whole_words(x, words[0]), *words)


def gated_matmul(
    x: Float[Array, "T I"],
    gate: UInt32[Array, "B W 64"],
    up: UInt32[Array, "B W 64"],
    num_out: int,
    activation: str,
    num_rows: Int[Array, ""] | None = None,
) -> Float[Array, "T O"]:
    """activation(x @ gate) * (x @ up), in x's type; one of `ACTIVATIONS`, of float32 sums.

    num_rows: as in `packed_matmuls`.
    """

    def plain(x: Array, gate: Array, up: Array) -> Array:
        return gate_up(x, unpack(gate, x.dtype), unpack(up, x.dtype), activation)[:, :num_out]

    def fast(x: Array, gate: Array, up: Array) -> Array:
        return native.gated_matmul(x, gate, up, num_out, activation, _count(x, num_rows))

    return _on_cpu(fast, plain, _whole_words(x, gate), gate, up)


def _whole_words(x: Array, words: Array) -> Array:
    return jnp.pad(x, ((0, 0), (0, words.shape[1] * 4 // x.dtype.itemsize - x.shape[1])))


def _count(x: Array, num_rows: Array | None) -> Array:
    return jnp.int32(x.shape[0]) if num_rows is None else num_rows


def _on_cpu[T](fast: Callable[..., T], plain: Callable[..., T], *arrays: Array) -> T:
    if not native.is_available():
        return plain(*arrays)
    # decided when the step is lowered: it may be for another platform than this one
    return jax.lax.platform_dependent(*arrays, cpu=fast, default=plain)


__all__ = ["ACTIVATIONS", "COLUMNS", "gated_matmul", "pack", "packed_matmuls", "take_columns"]
