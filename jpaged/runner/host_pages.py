"""Pages of preempted sequences, in the host's memory.

    save       pages side by side (a gather), sent to the host while the device goes on
    restore    sent back, and scattered into pages of other numbers

Nothing here waits: the device's queue keeps copies and steps in order.
"""

from collections.abc import Sequence as Pages
from weakref import WeakKeyDictionary

import jax
import numpy as np

from jpaged.models.base import KVCache
from jpaged.runner.compiled import CompiledSteps
from jpaged.scheduling.request import Sequence


class HostPages:
    """What was saved of each sequence; it is forgotten with the sequence."""

    def __init__(self, compiled: CompiledSteps, num_pages: int):
        self.compiled, self.num_pages = compiled, num_pages
        self._kept: WeakKeyDictionary[Sequence, KVCache] = WeakKeyDictionary()

    def save(self, kv_pages: KVCache, sequence: Sequence, pages: Pages[int]) -> None:
        """Keeps the contents of a sequence's pages, its first ones."""
        rows = self.compiled.gather(len(pages))(kv_pages, self.padded(pages))
        self._kept[sequence] = jax.device_put(rows, jax.memory.Space.Host)

    def restore(
        self, kv_pages: KVCache, sequence: Sequence, first: int, pages: Pages[int]
    ) -> KVCache:
        """Writes what was kept, from its `first` page on, to these pages, and forgets it."""
        kept = self._kept.pop(sequence)
        if not pages:
            return kv_pages
        skipped = [self.num_pages] * first  # beyond the cache: written nowhere
        rows = jax.device_put(kept, jax.memory.Space.Device)
        scatter = self.compiled.scatter(first + len(pages))
        return scatter(kv_pages, rows, self.padded([*skipped, *pages]))

    def padded(self, pages: Pages[int]) -> np.ndarray:
        """Numbers of pages, with padding that lies beyond the cache."""
        padded = np.full(self.compiled.num_moved(len(pages)), self.num_pages, np.int32)
        padded[: len(pages)] = pages
        return padded

    def parcel(self, sequence: Sequence) -> KVCache:
        """What is kept of a sequence."""
        return self._kept[sequence]

    def put(self, sequence: Sequence, parcel: KVCache) -> None:
        """Keeps what another engine had kept."""
        self._kept[sequence] = jax.device_put(parcel, jax.memory.Space.Host)

    @property
    def num_bytes(self) -> int:
        kept = list(self._kept.values())
        return sum(leaf.nbytes for leaf in jax.tree.leaves(kept))
