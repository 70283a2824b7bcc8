"""x @ w for a w that was packed once into the order in which the CPU reads it.

    packed  u32[B, W, 64]    B blocks of 64 columns, W words of the inner axis

A word is one float32 or two neighbouring bfloat16 of the inner axis; what does not fill a word or a
block is zero.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, UInt32

from pallas_kernels import native
from pallas_kernels.packed_matmul.reference import COLUMNS, pack, take_columns, unpack


def packed_matmul(
    x: Float[Array, "T I"],
    words: UInt32[Array, "B W 64"],
    num_out: int,
    dtype: DTypeLike | None = None,
) -> Float[Array, "T O"]:
    """x @ w, summed in float32.  x has w's type; the result has it too, or is float32.

    Where there are no native kernels it unpacks w, which is correct and slow: pack for a CPU
    that has them.
    """
    dtype = x.dtype if dtype is None else dtype
    x = jnp.pad(x, ((0, 0), (0, words.shape[1] * 4 // x.dtype.itemsize - x.shape[1])))

    def plain(x: Array, words: Array) -> Array:
        return (x @ unpack(words, x.dtype)[:, :num_out]).astype(dtype)

    def fast(x: Array, words: Array) -> Array:
        return native.packed_matmul(x, words, num_out, dtype)

    if not native.is_available():
        return plain(x, words)
    return jax.lax.platform_dependent(x, words, cpu=fast, default=plain)


__all__ = ["COLUMNS", "pack", "packed_matmul", "take_columns"]
