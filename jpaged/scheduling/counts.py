"""What a scheduler has done since it was made, in numbers that only grow."""

from dataclasses import dataclass, replace

from jpaged.scheduling.batch import ScheduledBatch


@dataclass
class Counts:
    """num_recomputed: tokens computed more than once, because their sequence was preempted.
    The `recompute_tax` is their share of all tokens computed."""

    num_steps: int = 0
    num_tokens: int = 0
    num_recomputed: int = 0
    num_preemptions: int = 0
    num_swapped_out: int = 0  # sequences; the other preempted ones are computed anew
    num_swapped_in: int = 0
    num_pages_swapped_out: int = 0
    num_pages_swapped_in: int = 0
    num_page_copies: int = 0

    def add(self, batch: ScheduledBatch) -> None:
        """Counts a batch that is about to be computed."""
        self.num_steps += 1
        self.num_tokens += batch.num_tokens
        self.num_preemptions += len(batch.preempted)
        if self.num_preemptions:  # else nobody has lost anything
            self.num_recomputed += num_recomputed(batch)
        self.num_swapped_out += len(batch.swap_outs)
        self.num_pages_swapped_out += sum(len(pages) for _, pages in batch.swap_outs)
        self.num_swapped_in += sum(bool(pages) for _, _, pages in batch.swap_ins)
        self.num_pages_swapped_in += sum(len(pages) for _, _, pages in batch.swap_ins)
        self.num_page_copies += len(batch.page_copies)

    def copy(self) -> "Counts":
        """As they are now."""
        return replace(self)

    @property
    def recompute_tax(self) -> float:
        return self.num_recomputed / self.num_tokens if self.num_tokens else 0.0


def num_recomputed(batch: ScheduledBatch) -> int:
    """Tokens of the batch that were computed before."""
    return sum(
        [
            min(sequence.num_reached - sequence.num_computed, count)
            for sequence, count in batch.items
            if sequence.num_reached > sequence.num_computed
        ]
    )
