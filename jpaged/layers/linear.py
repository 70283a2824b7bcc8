"""Weights that multiply.

Parameters are declared as zeros: models are built abstractly and filled from a checkpoint.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int


class Linear(nnx.Module):
    """x @ weight + bias, with the weight stored [in, out]."""

    def __init__(self, num_in: int, num_out: int, *, bias: bool = False):
        self.weight = nnx.Param(jnp.zeros((num_in, num_out)))
        self.bias = nnx.Param(jnp.zeros(num_out)) if bias else None

    def __call__(self, x: Float[jax.Array, "T I"]) -> Float[jax.Array, "T O"]:
        y = x @ self.weight[...]
        return y if self.bias is None else y + self.bias[...]


class Embedding(nnx.Module):
    """A table of vectors, which a tied model also uses to score the next token."""

    def __init__(self, num_rows: int, width: int):
        self.weight = nnx.Param(jnp.zeros((num_rows, width)))

    def __call__(self, rows: Int[jax.Array, " T"]) -> Float[jax.Array, "T E"]:
        return self.weight[...][rows]

    def attend(self, hidden: Float[jax.Array, "B E"]) -> Float[jax.Array, "B V"]:
        return hidden @ self.weight[...].T
