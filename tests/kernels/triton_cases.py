"""What `aot.py` compiles of the Triton kernels, at sizes of models that people serve."""

import jax
import jax.numpy as jnp

from pallas_kernels import kv_write, page_copy
from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.triton_ragged import ragged


def abstract_table(T: int, B: int, N: int) -> PageTable:
    shapes = ((T,), (T,), (B + 1,), (B, N), (B,))
    blank = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    return PageTable(*blank)  # pyright: ignore[reportArgumentType]


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


def kv_write_case(
    implementation: str = "triton", T: int = 256, K: int = 8, D: int = 128, dtype: str = "bfloat16"
):
    S = 16
    new = jax.ShapeDtypeStruct((T, K, D), jnp.bfloat16)
    pages = jax.ShapeDtypeStruct((4096, K, S, D), dtype)
    slots = jax.ShapeDtypeStruct((T,), jnp.int32)
    scales = (jax.ShapeDtypeStruct((K,), jnp.float32),) * (2 if pages.dtype.itemsize == 1 else 0)

    def write(k, v, k_pages, v_pages, slots, *scales):
        options = dict(zip(("k_scale", "v_scale"), scales, strict=False))
        arrays = (k, v, k_pages, v_pages, slots)
        return kv_write.write(*arrays, implementation=implementation, **options)

    return write, (new, new, pages, pages, slots, *scales), {"donate_argnums": (2, 3)}


def page_copy_case(num_pages: int = 16, dtype: str = "bfloat16"):
    pool = jax.ShapeDtypeStruct((4096, 8, 16, 128), dtype)
    pages = jax.ShapeDtypeStruct((num_pages,), jnp.int32)
    return page_copy.copy_pages, ([pool] * 4, pages, pages), {"donate_argnums": 0}


def page_restore_case(num_pages: int = 16, dtype: str = "bfloat16"):
    pool = jax.ShapeDtypeStruct((4096, 8, 16, 128), dtype)
    rows = jax.ShapeDtypeStruct((num_pages, 8, 16, 128), dtype)
    pages = jax.ShapeDtypeStruct((num_pages,), jnp.int32)
    return page_copy.scatter_pages, ([pool] * 4, [rows] * 4, pages), {"donate_argnums": 0}
