"""Weights that multiply.

Parameters are declared as zeros: models are built abstractly and filled from a checkpoint.  What
stands in a parameter's place then may be an array, or a weight with a way of its own to multiply
(packed, quantised): layers ask the weight, and models never hear of it.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Float, Int

FEW_ROWS = 16


@runtime_checkable
class Weight(Protocol):
    """A matrix [in, out] that is not a plain array."""

    def matmul(self, x: jax.Array, dtype: DTypeLike | None = None) -> jax.Array:
        """x @ w, in x's type or the one given."""
        ...

    def columns(self, ids: jax.Array) -> jax.Array:
        """Columns of w, as rows."""
        ...


@runtime_checkable
class SociableWeight(Weight, Protocol):
    """A weight that is faster in company: products of the same x become one."""

    def matmul_together(
        self, others: Sequence["SociableWeight"], x: jax.Array, dtype: DTypeLike | None = None
    ) -> tuple[jax.Array, ...]:
        """x @ w for this weight and the others."""
        ...

    def gates(self, activation: str) -> bool:
        """Whether `gate` knows the activation."""
        ...

    def gate(self, up: "SociableWeight", x: jax.Array, activation: str) -> jax.Array:
        """activation(x @ self) * (x @ up)."""
        ...


def matmul(
    x: Float[jax.Array, "T I"], w: jax.Array | Weight, dtype: DTypeLike | None = None
) -> Float[jax.Array, "T O"]:
    """x @ w, whatever kind of weight w is."""
    if isinstance(w, Weight):
        return w.matmul(x, dtype)
    # a wider result costs less than a cast of its own; for few rows XLA:CPU is faster with it
    wide = jnp.float32 if x.shape[0] <= FEW_ROWS else dtype
    return jnp.matmul(x, w, preferred_element_type=wide).astype(x.dtype if dtype is None else dtype)


class Linear(nnx.Module):
    """x @ weight + bias, with the weight stored [in, out]."""

    def __init__(self, num_in: int, num_out: int, *, bias: bool = False):
        self.weight = nnx.Param(jnp.zeros((num_in, num_out)))
        self.bias = nnx.Param(jnp.zeros(num_out)) if bias else None

    def __call__(
        self, x: Float[jax.Array, "T I"], dtype: DTypeLike | None = None
    ) -> Float[jax.Array, "T O"]:
        return self.add_bias(matmul(x, self.weight.get_value(), dtype))

    def add_bias(self, y: Float[jax.Array, "T O"]) -> Float[jax.Array, "T O"]:
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)


def project(x: Float[jax.Array, "T I"], *linears: Linear) -> list[jax.Array]:
    """What each layer makes of the same x: [T, its own width]."""
    weights = sociable(*(linear.weight.get_value() for linear in linears))
    if weights is None:
        return [linear(x) for linear in linears]
    products = weights[0].matmul_together(weights[1:], x)
    return [linear.add_bias(y) for linear, y in zip(linears, products, strict=True)]


def sociable(*weights: object) -> list[SociableWeight] | None:
    """The weights, if they are of one kind that likes company."""
    alike = all(type(weight) is type(weights[0]) for weight in weights)
    found = [weight for weight in weights if isinstance(weight, SociableWeight)]
    return found if alike and len(found) == len(weights) else None


class Embedding(nnx.Module):
    """A table of vectors, which a tied model also uses to score the next token."""

    def __init__(self, num_rows: int, width: int):
        self.weight = nnx.Param(jnp.zeros((num_rows, width)))

    def __call__(self, rows: Int[jax.Array, " T"]) -> Float[jax.Array, "T E"]:
        table = self.weight.get_value()
        if isinstance(table, Weight):  # stored for `attend`, so its rows are columns
            return table.columns(rows)
        return table[rows]

    def attend(
        self, hidden: Float[jax.Array, "B E"], dtype: DTypeLike | None = None
    ) -> Float[jax.Array, "B V"]:
        table = self.weight.get_value()
        return matmul(hidden, table if isinstance(table, Weight) else table.T, dtype)
