"""Weights in the order in which a CPU reads them.

A packed weight knows how to multiply, so models never hear of it: `Linear` asks the weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt32

from jpaged.weights.functional import Params
from pallas_kernels.packed_matmul import (
    ACTIVATIONS,
    gated_matmul,
    pack,
    packed_matmuls,
    take_columns,
)


class Rows(NamedTuple):
    """How many rows of a step are no padding: of its T tokens, and of its sequences."""

    num_tokens: Int[jax.Array, ""]
    num_sequences: Int[jax.Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedWeight:
    """A matrix [in, out] of bf16 or f32.  Bound to a step, it leaves the padding out."""

    words: UInt32[jax.Array, "B W 64"]
    rows: Rows | None = None
    shape: tuple[int, int] = field(default=(0, 0), metadata={"static": True})
    dtype: jnp.dtype = field(default=jnp.dtype("float32"), metadata={"static": True})
    step_tokens: int = field(default=0, metadata={"static": True})  # T

    @classmethod
    def of(cls, w: Float[jax.Array, "I O"]) -> "PackedWeight":
        return cls(pack(w), shape=(w.shape[0], w.shape[1]), dtype=w.dtype)

    def num_rows(self, x: jax.Array) -> jax.Array | None:
        """Of x, which has a row for each token of the step or for each sequence."""
        if self.rows is None:
            return None
        is_tokens = x.shape[0] == self.step_tokens
        return self.rows.num_tokens if is_tokens else self.rows.num_sequences

    def matmul(
        self, x: Float[jax.Array, "T I"], dtype: DTypeLike | None = None
    ) -> Float[jax.Array, "T O"]:
        return self.matmul_together((), x, dtype)[0]

    def matmul_together(
        self, others: Sequence["PackedWeight"], x: jax.Array, dtype: DTypeLike | None = None
    ) -> tuple[jax.Array, ...]:
        words, widths = zip(*((w.words, w.shape[1]) for w in (self, *others)), strict=True)
        return packed_matmuls(x, words, widths, dtype, self.num_rows(x))

    def gates(self, activation: str) -> bool:
        return activation in ACTIVATIONS

    def gate(self, up: "PackedWeight", x: jax.Array, activation: str) -> jax.Array:
        return gated_matmul(x, self.words, up.words, self.shape[1], activation, self.num_rows(x))

    def columns(self, ids: Int[jax.Array, " T"]) -> Float[jax.Array, "T I"]:
        return take_columns(self.words, ids, self.dtype)[:, : self.shape[0]]


def bind_rows(params: Params, rows: Rows, step_tokens: int) -> Params:
    """Tells every packed weight how much of a step of `step_tokens` rows is no padding."""

    def bind(leaf):
        if not isinstance(leaf, PackedWeight):
            return leaf
        return replace(leaf, rows=rows, step_tokens=step_tokens)

    return jax.tree.map(bind, params, is_leaf=lambda leaf: isinstance(leaf, PackedWeight))
