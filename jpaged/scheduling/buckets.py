"""The few shapes that are compiled, and the smallest of them that holds a batch.

A compiled step has fixed shapes.  A bucket `(T, B, N)` has room for T tokens of B sequences of
up to N pages each; what a batch leaves empty is padding.  Where `T == B` every sequence runs one
token: those are the decode buckets, and kernels may specialise on them.
"""

import functools
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

    def holds(self, other: "Bucket") -> bool:
        return all(mine >= its for mine, its in zip(self, other, strict=True))

    def __str__(self) -> str:
        return f"T{self.num_tokens}·B{self.num_sequences}·N{self.pages_per_sequence}"


# Sequences of a decode step: between two rungs at most a third is padding, on average a seventh.
# Below 8 a step costs what reading the weights costs, however many rows it has.
SEQUENCES = (2, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# Tokens of a step with prompts in it: 16 beside a few decodes; doubling, and halfway from 256 on,
# where a padded row costs as much time as a real one.
TOKENS = (16, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384)
# A short prompt on its own should not score the vocabulary for every seat; beside 256 tokens of
# prompts those rows are a small part.
FEW_SEQUENCES, FEW_TOKENS = 8, 256
# Pages of a sequence: a table of up to 512 columns is cheap to send whole.
PAGES = (512,)
MOST_REMEMBERED = 4096  # shapes of which the bucket is known without looking


@dataclass(frozen=True)
class BucketLadder:
    """All buckets of an engine, from small to large."""

    decode: tuple[Bucket, ...]
    mixed: tuple[Bucket, ...]

    @classmethod
    def build(
        cls, max_num_tokens: int, max_num_seqs: int, pages_per_sequence: int
    ) -> "BucketLadder":
        """The rungs up to an engine's limits; the last of each kind holds any batch.

        One row is padded to two: products with a single bf16 row are twenty times slower on
        XLA:CPU, and no slower with two.
        """
        pages = _rungs(PAGES, pages_per_sequence)
        seqs = _rungs(SEQUENCES, max(2, max_num_seqs))
        # T > B keeps the mixed buckets apart from the decode ones
        tokens = _rungs(TOKENS, max(max_num_tokens, seqs[-1] + 1))
        few = min(FEW_SEQUENCES, seqs[-1])
        rows = [(t, b) for t in tokens for b in sorted({few, seqs[-1]})]
        fitting = [(t, b) for t, b in rows if t > b and (b == seqs[-1] or t <= FEW_TOKENS)]
        return cls(
            decode=tuple(Bucket(b, b, n) for n in pages for b in seqs),
            mixed=tuple(Bucket(t, b, n) for n in pages for t, b in fitting),
        )

    def describe(self, num_now: int) -> str:
        """The plan of what is compiled, for people."""
        kinds = (("decode", self.decode), ("mixed", self.mixed))
        shapes = "; ".join(f"{name} {' '.join(map(str, kind))}" for name, kind in kinds)
        return f"{len(self.all)} step shapes, {num_now} compiled before the first request: {shapes}"

    @property
    def all(self) -> tuple[Bucket, ...]:
        return tuple(dict.fromkeys((*self.decode, *self.mixed)))

    def fit(self, batch: ScheduledBatch) -> Bucket:
        """The cheapest bucket that holds the batch; fewest tokens first, then rows, then pages."""
        pages = max([len(sequence.pages) for sequence, _ in batch.items])
        return self.fit_shape(batch.num_tokens, batch.num_sequences, pages)

    # of the shapes that were asked for lately, which are those that will be: a simulated day has
    # millions of them
    @functools.lru_cache(MOST_REMEMBERED)  # noqa: B019  (an engine has one ladder)
    def fit_shape(self, num_tokens: int, num_sequences: int, pages: int) -> Bucket:
        """The cheapest bucket for a batch of this shape; one token each where they are equal."""
        need = Bucket(num_tokens, num_sequences, pages)
        rungs = self.all if need.is_decode else self.mixed
        fitting = [rung for rung in rungs if rung.holds(need)]
        assert fitting, f"no bucket holds {need}; the largest is {max(rungs)}"
        return min(fitting)


def _rungs(ladder: tuple[int, ...], high: int) -> list[int]:
    """The ladder's rungs below `high`, and `high` itself."""
    return [*(rung for rung in ladder if rung < high), high]
