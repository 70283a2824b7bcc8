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

Numbers = Pages[Pages[int]]  # of pages, and of their places for each narrower window


class HostPages:
    """What was saved of each sequence; it is forgotten with the sequence."""

    def __init__(self, compiled: CompiledSteps):
        self.compiled = compiled
        self._kept: WeakKeyDictionary[Sequence, KVCache] = WeakKeyDictionary()

    def save(self, kv_pages: KVCache, sequence: Sequence, numbers: Numbers) -> None:
        """Keeps the contents of a sequence's pages, its first ones."""
        rows = self.compiled.gather(len(numbers[0]))(kv_pages, self.padded(numbers))
        self._kept[sequence] = jax.device_put(rows, jax.memory.Space.Host)

    def restore(
        self, kv_pages: KVCache, sequence: Sequence, first: int, numbers: Numbers
    ) -> KVCache:
        """Writes what was kept, from its `first` page on, to these pages, and forgets it."""
        kept = self._kept.pop(sequence)
        if not numbers[0]:
            return kv_pages
        rows = jax.device_put(kept, jax.memory.Space.Device)
        scatter = self.compiled.scatter(first + len(numbers[0]))
        return scatter(kv_pages, rows, self.padded(numbers, first))

    def padded(self, numbers: Numbers, skipped: int = 0) -> np.ndarray:
        """The numbers after so many that are skipped; both they and the padding behind lie beyond
        the cache: written nowhere."""
        count = skipped + len(numbers[0])
        padded = self.compiled.program.nowhere(self.compiled.num_moved(count))
        padded[:, skipped:count] = numbers
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
