"""The device's side of paging: the cache of one layer."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from pallas_kernels.page_table import PageTable, PlacedPages


@dataclass(frozen=True)
class KVSpec:
    """What one layer keeps of a token: memory planning and cache building follow from it."""

    kv_heads: int
    head_dim: int
    window: int | None = None

    def bytes_per_token(self, dtype: jnp.dtype) -> int:
        return 2 * self.kv_heads * self.head_dim * jnp.dtype(dtype).itemsize


class KVPages(NamedTuple):
    """Keys and values of one layer.

    Each (page, head) is S·D contiguous elements, in an order that `write_and_attend` chooses.
    """

    k: Float[jax.Array, "P K S D"]
    v: Float[jax.Array, "P K S D"]

    @classmethod
    def zeros(cls, spec: KVSpec, num_pages: int, page_size: int, dtype: jnp.dtype) -> "KVPages":
        shape = (num_pages, spec.kv_heads, page_size, spec.head_dim)
        # two arrays: one buffer cannot be donated twice
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


__all__ = ["KVPages", "KVSpec", "PageTable", "PlacedPages"]
