"""What happened, as data: no printing, no plotting."""

from dataclasses import dataclass

from jpaged.scheduling.buckets import Bucket


@dataclass(frozen=True)
class StepRecord:
    """One step of the serving loop.

    `slots_held` counts token places in held pages, `slots_used` those that hold a token some
    sequence reads; a shared page counts once in both.  `pages_unshared` is what the sequences
    would hold if each page had one holder.
    """

    index: int
    start: float  # seconds
    end: float
    bucket: Bucket | None
    num_tokens: int
    num_sequences: int
    num_waiting: int
    num_preempted: int
    num_finished: int
    pages_held: int
    pages_unshared: int
    pages_idle: int
    pages_free: int  # neither held nor idle
    slots_held: int
    slots_used: int
    num_recomputed: int = 0  # tokens that were computed before, until their sequence was preempted
    pages_copied: int = 0
    pages_swapped_out: int = 0
    pages_swapped_in: int = 0

    @property
    def waste(self) -> float:
        """The share of held memory that holds nothing, from 0 to 1."""
        return 1 - self.slots_used / self.slots_held if self.slots_held else 0.0

    @property
    def sharing(self) -> float:
        """The share of pages that sharing saves, from 0 to 1."""
        return 1 - self.pages_held / self.pages_unshared if self.pages_unshared else 0.0
