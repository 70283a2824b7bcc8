"""The device's side of paging: the cache of one layer, and the write into it.

The cache is written before it is read, always: gathering first would make XLA copy all of it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from pallas_kernels.page_table import PageTable


@dataclass(frozen=True)
class KVSpec:
    """What one layer keeps of a token: memory planning and cache building follow from it."""

    kv_heads: int
    head_dim: int
    window: int | None = None

    def bytes_per_token(self, dtype: jnp.dtype) -> int:
        return 2 * self.kv_heads * self.head_dim * jnp.dtype(dtype).itemsize


class KVPages(NamedTuple):
    """Keys and values of one layer.  Each (page, head) is one contiguous tile of S x D."""

    k: Float[jax.Array, "P K S D"]
    v: Float[jax.Array, "P K S D"]

    @classmethod
    def zeros(cls, spec: KVSpec, num_pages: int, page_size: int, dtype: jnp.dtype) -> "KVPages":
        shape = (num_pages, spec.kv_heads, page_size, spec.head_dim)
        # two arrays: one buffer cannot be donated twice
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def write_kv(
    pages: KVPages, k: Float[jax.Array, "T K D"], v: Float[jax.Array, "T K D"], table: PageTable
) -> KVPages:
    """Puts each token's key and value into its slot."""
    S = pages.k.shape[2]
    # padding writes past the end, and mode="drop" discards it
    page, offset = table.write_slots // S, table.write_slots % S
    return KVPages(
        pages.k.at[page, :, offset].set(k.astype(pages.k.dtype), mode="drop"),
        pages.v.at[page, :, offset].set(v.astype(pages.v.dtype), mode="drop"),
    )


__all__ = ["KVPages", "KVSpec", "PageTable", "write_kv"]
