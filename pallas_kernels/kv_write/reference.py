"""Writing into pages in plain XLA."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, Num


def write(
    new: Float[Array, "T K D"],
    pages: Num[Array, "P K S D"],
    slots: Int[Array, " T"],
    scale: Float[Array, " K"] | None = None,
) -> Num[Array, "P K S D"]:
    """Puts each token's keys, or values, into its slot."""
    P, S = pages.shape[0], pages.shape[2]
    page, offset = lax.div(slots, jnp.int32(S)), lax.rem(slots, jnp.int32(S))
    # padding repeats one slot, and must be as unique as we promise
    page = jnp.where(page < P, page, P + jnp.arange(len(slots)))
    rows = quantised(new, pages.dtype, scale)
    # where indices may repeat, XLA:GPU compares and swaps 4 bytes for each element of 1 or 2
    return pages.at[page, :, offset].set(rows, mode="drop", unique_indices=True)


def quantised(
    x: Float[Array, "T K D"], dtype: jnp.dtype, scale: Float[Array, " K"] | None
) -> Num[Array, "T K D"]:
    """x in a page's type; one of 8 bits is scaled per head, clipped and rounded to the nearest."""
    if scale is None:
        return x.astype(dtype)
    largest = largest_of(dtype)
    x = x.astype(jnp.float32) * (1 / scale[:, None])
    x = jnp.clip(x, -largest, largest)
    return (jnp.round(x) if dtype == jnp.int8 else x).astype(dtype)


def largest_of(dtype: jnp.dtype) -> float:
    """The largest number of a type, with its negative: int8's -128 is left out."""
    return 127.0 if dtype == jnp.int8 else float(jnp.finfo(dtype).max)
