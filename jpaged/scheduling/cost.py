"""What a step costs is a function of its shape; who knows it is a cost model."""

from dataclasses import dataclass
from typing import Protocol

from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.buckets import Bucket, BucketLadder


@dataclass(frozen=True, slots=True)
class StepShape:
    """What the seconds of a step depend on.

    num_read: tokens in the cache that attention reads, summed over sequences, the new ones
    included.  num_pairs: of queries and keys; a prompt's grow with its square.  num_moved: pages
    copied, or swapped in or out; num_swapped: those swapped.  num_prompts: sequences that compute
    more than a token.  bucket: what it is padded to, None if nothing is.  after_rest,
    after_prompts: of what came shortly before (see `simulator.aftermath`).
    """

    num_tokens: int
    num_sequences: int
    num_read: int = 0
    num_pairs: int = 0
    num_moved: int = 0
    bucket: Bucket | None = None
    num_prompts: int = 0
    num_swapped: int = 0
    after_rest: float = 0.0
    after_prompts: float = 0.0

    @classmethod
    def of(
        cls,
        batch: ScheduledBatch,
        bucket: Bucket | None,
        after: tuple[float, float] = (0.0, 0.0),
    ) -> "StepShape":
        """after: `after_rest` and `after_prompts`."""
        num_prompts = 0
        if batch.is_decode:  # most steps, and most of a simulation's time
            num_read = sum([sequence.num_computed for sequence, _ in batch.items])
            num_read = num_pairs = num_read + batch.num_sequences
        else:
            spans = [(sequence.num_computed, count) for sequence, count in batch.items]
            num_read = sum([done + count for done, count in spans])
            num_pairs = sum([count * done + count * (count + 1) // 2 for done, count in spans])
            num_prompts = sum([count > 1 for _, count in spans])
        swapped = sum([len(pages) for _, pages in batch.swap_outs])
        swapped += sum([len(pages) for _, _, pages in batch.swap_ins])
        moved = swapped + len(batch.page_copies)
        counts = batch.num_tokens, batch.num_sequences, num_read, num_pairs
        return cls(*counts, moved, bucket, num_prompts, swapped, *after)


class CostModel(Protocol):
    """Predicts how long a step takes."""

    def seconds(self, shape: StepShape) -> float:
        """On the device."""
        ...

    @property
    def host_seconds(self) -> float:
        """What a step takes on the host, before it is submitted."""
        ...


@dataclass(frozen=True)
class Costs:
    """A cost model over the compiled shapes: what a batch would take before it is made."""

    model: CostModel
    buckets: BucketLadder | None = None

    def seconds(
        self, num_tokens: int, num_sequences: int, num_read: int = 0, pages: int = 1
    ) -> float:
        """Of a step of so many tokens, in the bucket that holds it.  pages: of the longest
        sequence."""
        bucket = None
        if self.buckets is not None:
            bucket = self.buckets.fit_shape(num_tokens, num_sequences, pages)
        pairs = num_read * max(1, num_tokens // max(1, num_sequences))
        shape = StepShape(num_tokens, num_sequences, num_read, pairs, 0, bucket)
        return self.model.seconds(shape)
