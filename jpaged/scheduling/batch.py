"""The two letters between scheduler and executor: what to run, and what came of it."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from jpaged.scheduling.request import Sequence


@dataclass(frozen=True)
class PlacedMoves:
    """What moves before a step, for layers of a narrower window: one to one as in the batch, but in
    places, or num_places where there is none.

    place_of: i32[P] of every page, for this step's table.  It is the pool's own: read it before
    the next step is scheduled.
    """

    place_of: "array[int]"
    swap_outs: tuple[tuple[Sequence, tuple[int, ...]], ...] = ()
    page_copies: tuple[tuple[int, int], ...] = ()
    swap_ins: tuple[tuple[Sequence, int, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class ScheduledBatch:
    """One step's work: run `num_tokens` pending tokens of each sequence.

    Pages for them are already in `sequence.pages`.  Before the step, and in this order:

    swap_outs      sequence, pages         goes to the host, in this order of pages
    page_copies    from, to                all are read before any is written
    swap_ins       sequence, first, pages  comes back from the host, from its first-th page on;
                                           what is not named there is forgotten

    has_rereads: whether any sequence begins with a token that lies in its pages already.
    placed: the moves for layers of narrower windows, see `Places`.
    """

    items: tuple[tuple[Sequence, int], ...]
    preempted: tuple[Sequence, ...] = ()
    swap_outs: tuple[tuple[Sequence, tuple[int, ...]], ...] = ()
    page_copies: tuple[tuple[int, int], ...] = ()
    swap_ins: tuple[tuple[Sequence, int, tuple[int, ...]], ...] = ()
    has_rereads: bool = False
    placed: tuple[PlacedMoves, ...] = ()

    @cached_property
    def num_tokens(self) -> int:
        return sum([count for _, count in self.items])

    @property
    def num_sequences(self) -> int:
        return len(self.items)

    @property
    def is_decode(self) -> bool:
        """True when every sequence runs exactly one token."""
        return self.num_tokens == len(self.items)


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities at one position: of the token that stands there, and of the likeliest."""

    token: int
    logprob: float
    rank: int  # 1 is the likeliest
    top_tokens: tuple[int, ...]
    top_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class StepOutput:
    """What a step answered, one entry a batch item.

    `tokens[i]` counts only where item i ran all its pending tokens.  `logprobs` maps an item to
    its token's entry, `prompt_logprobs` to a first position and the entries from there on.
    """

    tokens: tuple[int, ...]
    logprobs: Mapping[int, TokenLogprobs]
    prompt_logprobs: Mapping[int, tuple[int, tuple[TokenLogprobs, ...]]]

    @classmethod
    def filler(cls, batch: ScheduledBatch, token: int = 0) -> "StepOutput":
        """An answer without a model: every sequence gets `token`."""
        return cls((token,) * batch.num_sequences, {}, {})
