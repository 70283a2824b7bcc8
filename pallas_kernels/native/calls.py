"""The C++ kernels as JAX functions.  Call them only where `is_available()`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt32

from pallas_kernels.page_table import PageTable

MOST_DIM = 256  # kMostDim in attention.cc
MOST_GROUP = 32  # kMostRows
MOST_PRODUCTS = 8  # kMost in matmul.cc
TILE = 16  # tokens: kTile; pages and heads are made of whole ones


def supports(q: jax.Array, k_pages: jax.Array) -> bool:
    """Whether the C++ attention takes these shapes and types."""
    K, S, D = k_pages.shape[1:]
    return (
        q.dtype == k_pages.dtype
        and q.dtype in (jnp.bfloat16, jnp.float32)
        and S % TILE == 0
        and D % TILE == 0
        and D <= MOST_DIM
        and q.shape[1] // K <= MOST_GROUP
    )


def write_and_attend(
    q: Float[Array, "T H D"],
    k: Float[Array, "T K D"],
    v: Float[Array, "T K D"],
    k_pages: Float[Array, "P K S D"],
    v_pages: Float[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
) -> tuple[Float[Array, "T H D"], Float[Array, "P K S D"], Float[Array, "P K S D"]]:
    """See `pallas_kernels.paged_attention.write_and_attend`.

    The pages' contents lie in tiles (`paged_attention/tiles.py`).
    """
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (q, k_pages, v_pages)]
    in_place = {3: 1, 4: 2}
    call = jax.ffi.ffi_call("jpaged_paged_attention", shapes, input_output_aliases=in_place)
    out, k_pages, v_pages = call(
        q,
        k.astype(k_pages.dtype),
        v.astype(v_pages.dtype),
        k_pages,
        v_pages,
        table.pages,
        table.write_slots,
        table.query_starts,
        table.lengths,
        jnp.zeros(0, jnp.float32) if sinks is None else sinks.astype(jnp.float32),
        scale=np.float32(scale),
        softcap=np.float32(softcap or 0),
        window=np.int32(window or 0),
    )
    return out, k_pages, v_pages


def packed_matmuls(
    x: Float[Array, "T I"],
    words: Sequence[UInt32[Array, "_ W 64"]],
    num_outs: Sequence[int],
    dtype: DTypeLike,
    num_rows: Int[Array, ""],
) -> tuple[Float[Array, "T _"], ...]:
    """x @ w for each packed w, in one job; the results in x's type or float32."""
    results = [jax.ShapeDtypeStruct((x.shape[0], num_out), dtype) for num_out in num_outs]
    return tuple(jax.ffi.ffi_call("jpaged_packed_matmul", results)(x, num_rows, *words))


def gated_matmul(
    x: Float[Array, "T I"],
    gate: UInt32[Array, "B W 64"],
    up: UInt32[Array, "B W 64"],
    num_out: int,
    activation: str,
    num_rows: Int[Array, ""],
) -> Float[Array, "T O"]:
    """activation(x @ gate) * (x @ up) for packed weights, in x's type."""
    result = jax.ShapeDtypeStruct((x.shape[0], num_out), x.dtype)
    call = jax.ffi.ffi_call("jpaged_gated_matmul", result)
    return call(x, num_rows, gate, up, activation=activation)


def choose_tokens(
    logits: Float[Array, "B V"],
    u: Float[Array, " B"],
    temperature: Float[Array, " B"],
    top_k: Int[Array, " B"],
    top_p: Float[Array, " B"],
    min_p: Float[Array, " B"],
) -> Int[Array, " B"]:
    """See `pallas_kernels.token_choice.choose_tokens`."""
    tokens = jax.ShapeDtypeStruct(top_k.shape, jnp.int32)
    call = jax.ffi.ffi_call("jpaged_choose_tokens", tokens)
    return call(logits, u, temperature, top_k, top_p, min_p)
