"""What the engine asks of a model, and the one place that decides how blocks are run."""

from collections.abc import Iterable
from typing import Protocol

import jax
from jaxtyping import Float, Int

from jpaged.layers.paged import KVPages, KVSpec, PageTable

KVCache = tuple[KVPages, ...]


class Model(Protocol):
    """A decoder that reads and writes a paged cache.

    It has no batch dimension: the page table says which of the T tokens belong together.
    """

    def __call__(
        self, tokens: Int[jax.Array, " T"], table: PageTable, kv_pages: KVCache
    ) -> tuple[Float[jax.Array, "T E"], KVCache]: ...

    def logits(self, hidden: Float[jax.Array, "B E"]) -> Float[jax.Array, "B V"]: ...

    def kv_spec(self) -> tuple[KVSpec, ...]:
        """One entry a layer."""
        ...


class Block(Protocol):
    def __call__(
        self, x: Float[jax.Array, "T E"], table: PageTable, kv: KVPages
    ) -> tuple[Float[jax.Array, "T E"], KVPages]: ...


def run_blocks(
    blocks: Iterable[Block], x: Float[jax.Array, "T E"], table: PageTable, kv_pages: KVCache
) -> tuple[Float[jax.Array, "T E"], KVCache]:
    """Sends x through the blocks, each with its own layer of the cache."""
    written = []
    for block, kv in zip(blocks, kv_pages, strict=True):
        x, kv = block(x, table, kv)
        written.append(kv)
    return x, tuple(written)
