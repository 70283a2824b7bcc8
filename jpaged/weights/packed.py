"""Weights in the order in which a CPU reads them.

A packed weight knows how to multiply, so models never hear of it: `Linear` asks the weight.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt32

from pallas_kernels.packed_matmul import pack, packed_matmul, take_columns


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedWeight:
    """A matrix [in, out] of bf16 or f32."""

    words: UInt32[jax.Array, "B W 64"]
    shape: tuple[int, int] = field(metadata={"static": True})
    dtype: jnp.dtype = field(metadata={"static": True})

    @classmethod
    def of(cls, w: Float[jax.Array, "I O"]) -> "PackedWeight":
        return cls(pack(w), (w.shape[0], w.shape[1]), w.dtype)

    def matmul(
        self, x: Float[jax.Array, "T I"], dtype: DTypeLike | None = None
    ) -> Float[jax.Array, "T O"]:
        return packed_matmul(x, self.words, self.shape[1], dtype)

    def columns(self, ids: Int[jax.Array, " T"]) -> Float[jax.Array, "T I"]:
        return take_columns(self.words, ids, self.dtype)[:, : self.shape[0]]
