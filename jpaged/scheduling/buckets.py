"""The few shapes that are compiled, and the smallest of them that holds a batch.

A compiled step has fixed shapes.  A bucket `(T, B, N)` has room for T tokens of B sequences of
up to N pages each; what a batch leaves empty is padding.  Where `T == B` every sequence runs one
token: those are the decode buckets, and kernels may specialise on them.
"""

from dataclasses import dataclass
from typing import NamedTuple

from jpaged.scheduling.batch import ScheduledBatch


class Bucket(NamedTuple):
    num_tokens: int  # T
    num_sequences: int  # B
    pages_per_sequence: int  # N

    @property
    def is_decode(self) -> bool:
        return self.num_tokens == self.num_sequences

    def __str__(self) -> str:
        return f"T{self.num_tokens}·B{self.num_sequences}·N{self.pages_per_sequence}"


@dataclass(frozen=True)
class BucketLadder:
    """All buckets of an engine, from small to large."""

    decode: tuple[Bucket, ...]
    mixed: tuple[Bucket, ...]

    @classmethod
    def build(
        cls, max_num_tokens: int, max_num_seqs: int, pages_per_sequence: int
    ) -> "BucketLadder":
        """Doubling decode buckets, and mixed ones in steps of four with few or all sequences.

        One row is padded to two: products with a single bf16 row are twenty times slower on
        XLA:CPU, and no slower with two.
        """
        pages = _page_rungs(pages_per_sequence)
        seqs = _rungs(2, max(2, max_num_seqs), 2)
        few = min(8, seqs[-1])
        tokens = _rungs(16, max(16, max_num_tokens), 4)
        rows = sorted({few, seqs[-1]})
        return cls(
            decode=tuple(Bucket(b, b, n) for n in pages for b in seqs),
            # T > B keeps the mixed buckets apart from the decode ones
            mixed=tuple(Bucket(max(t, b + 1), b, n) for n in pages for t in tokens for b in rows),
        )

    @property
    def all(self) -> tuple[Bucket, ...]:
        return tuple(dict.fromkeys((*self.decode, *self.mixed)))

    def fit(self, batch: ScheduledBatch) -> Bucket:
        """The cheapest bucket that holds the batch; fewest tokens first, then rows, then pages."""
        pages = max(len(sequence.pages) for sequence, _ in batch.items)
        need = Bucket(batch.num_tokens, batch.num_sequences, pages)
        rungs = self.all if batch.is_decode else self.mixed
        fitting = [rung for rung in rungs if all(r >= n for r, n in zip(rung, need, strict=True))]
        assert fitting, f"no bucket holds {need}; the largest is {max(rungs)}"
        return min(fitting)


def _rungs(low: int, high: int, factor: int) -> list[int]:
    """low, low·factor, … and, last, `high` itself."""
    rungs = []
    while low < high:
        rungs.append(low)
        low *= factor
    return [*rungs, high]


def _page_rungs(most: int) -> list[int]:
    """One rung for tables of up to 512 pages (cheap to send whole), two beyond."""
    return [most] if most <= 512 else [512, most]
