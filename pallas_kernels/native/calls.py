"""The C++ kernels as JAX functions.  Call them only where `is_available()`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, UInt32

from pallas_kernels.page_table import PageTable

MOST_DIM = 256  # kMostDim in attention.cc
MOST_GROUP = 32  # kMostRows


def supports(q: jax.Array, k_pages: jax.Array) -> bool:
    """Whether the C++ attention takes these shapes and types."""
    per_word = 4 // q.dtype.itemsize
    return (
        q.dtype == k_pages.dtype
        and q.dtype in (jnp.bfloat16, jnp.float32)
        and q.shape[2] <= MOST_DIM
        and q.shape[2] % per_word == 0
        and q.shape[1] // k_pages.shape[1] <= MOST_GROUP
    )


def paged_attention(
    q: Float[Array, "T H D"],
    k_pages: Float[Array, "P K S D"],
    v_pages: Float[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
) -> Float[Array, "T H D"]:
    """See `pallas_kernels.paged_attention`."""
    out = jax.ShapeDtypeStruct(q.shape, q.dtype)
    no_sinks = jnp.zeros(0, jnp.float32)
    return jax.ffi.ffi_call("jpaged_paged_attention", out)(
        q,
        k_pages,
        v_pages,
        table.pages,
        table.query_starts,
        table.lengths,
        no_sinks if sinks is None else sinks.astype(jnp.float32),
        scale=np.float32(scale),
        softcap=np.float32(softcap or 0),
        window=np.int32(window or 0),
    )


def packed_matmul(
    x: Float[Array, "T I"], words: UInt32[Array, "B W 64"], num_out: int, dtype: DTypeLike
) -> Float[Array, "T O"]:
    """x @ w for a packed w; the result in x's type or float32."""
    return jax.ffi.ffi_call(
        "jpaged_packed_matmul", jax.ShapeDtypeStruct((x.shape[0], num_out), dtype)
    )(x, words)
