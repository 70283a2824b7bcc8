"""What `aot.py` compiles of the Triton kernels, at sizes of models that people serve."""

import jax
import jax.numpy as jnp

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.triton_ragged import ragged


def abstract_table(T: int, B: int, N: int) -> PageTable:
    shapes = ((T,), (T,), (B + 1,), (B, N), (B,))
    return PageTable(*(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes))


def ragged_case(
    T: int = 2048,
    B: int = 64,
    H: int = 32,
    K: int = 8,
    D: int = 128,
    S: int = 16,
    dtype: str = "bfloat16",
    pages: str = "bfloat16",
    with_alibi: bool = False,
    **options,
):
    q = jax.ShapeDtypeStruct((T, H, D), dtype)
    kv = jax.ShapeDtypeStruct((4096, K, S, D), pages)
    slopes = jax.ShapeDtypeStruct((H,), jnp.float32)
    alibi = (slopes,) if with_alibi else ()

    def attend(q, k, v, table, *alibi):
        return ragged(q, k, v, table, scale=D**-0.5, alibi=alibi[0] if alibi else None, **options)

    return attend, (q, kv, kv, abstract_table(T, B, 256), *alibi), {}
