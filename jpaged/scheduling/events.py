"""What happened, as data: no printing, no plotting."""

from dataclasses import dataclass
from itertools import pairwise

from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.request import Sequence


@dataclass(frozen=True)
class StepRecord:
    """One step of the serving loop.

    `slots_held` counts token places in held pages, `slots_used` those that hold a token some
    sequence reads; a shared page counts once in both.  `pages_unshared` is what the sequences
    would hold if each page had one holder.  All that is as full as it is during the step; *after*
    is when it has answered and those who ended have left, None in logs that do not say.
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
    pages_held_after: int | None = None
    pages_idle_after: int | None = None

    @property
    def waste(self) -> float:
        """The share of held memory that holds nothing, from 0 to 1."""
        return 1 - self.slots_used / self.slots_held if self.slots_held else 0.0

    @property
    def padding(self) -> float:
        """The share of the bucket's token slots that held no token, from 0 to 1."""
        return 1 - self.num_tokens / self.bucket.num_tokens if self.bucket else 0.0

    @property
    def sharing(self) -> float:
        """The share of pages that sharing saves, from 0 to 1."""
        return 1 - self.pages_held / self.pages_unshared if self.pages_unshared else 0.0


def name_of(request_id: str, index: int) -> str:
    """What a report calls a sequence: most requests have only one."""
    return f"{request_id}#{index}" if index else request_id


@dataclass(frozen=True)
class RequestRecord:
    """One sequence from its arrival to its end; times in seconds of the engine's clock.

    index: which of the request's samples.  scheduled: when it was first let in.  token_times: when
    each token was said.  pauses: from and until when it was preempted, until None if it never went
    on.  num_cached: prompt tokens that were found.  is_steered: it was told its tokens, a beam of a
    search, say.  Promises (`Terms`) are as they were made, None where there was none.
    """

    request_id: str
    index: int
    client: str
    session: str
    priority: int
    arrival: float
    scheduled: float | None
    first_token: float | None
    last_token: float | None
    num_prompt: int
    num_cached: int
    num_output: int
    num_preemptions: int
    finish_reason: str | None
    ttft_promised: float | None = None
    tpot_promised: float | None = None
    deadline_promised: float | None = None
    predicted_tokens: float | None = None
    token_times: tuple[float, ...] = ()
    pauses: tuple[tuple[float, float | None], ...] = ()
    is_steered: bool = False

    @classmethod
    def of(cls, sequence: Sequence, keeps_times: bool = True) -> "RequestRecord":
        request, timing, terms = sequence.request, sequence.timing, sequence.request.terms
        return cls(
            request_id=request.id,
            index=sequence.index,
            client=terms.client,
            session=terms.session,
            priority=request.priority,
            arrival=request.arrival,
            scheduled=timing.scheduled,
            first_token=timing.first_token,
            last_token=timing.last_token,
            num_prompt=sequence.num_prompt,
            num_cached=sequence.num_cached,
            num_output=sequence.num_generated,
            num_preemptions=sequence.num_preemptions,
            finish_reason=sequence.finish_reason,
            ttft_promised=terms.ttft,
            tpot_promised=terms.tpot,
            deadline_promised=terms.deadline,
            predicted_tokens=terms.predicted_tokens,
            token_times=tuple(timing.tokens) if keeps_times else (),
            pauses=tuple(timing.pauses),
            is_steered=sequence.is_steered,
        )

    @property
    def name(self) -> str:
        return name_of(self.request_id, self.index)

    @property
    def ttft(self) -> float | None:
        """Seconds from arrival to the first token."""
        return None if self.first_token is None else self.first_token - self.arrival

    @property
    def tpot(self) -> float | None:
        """Seconds a token after the first; None if there was no second."""
        if self.first_token is None or self.last_token is None or self.num_output < 2:
            return None
        return (self.last_token - self.first_token) / (self.num_output - 1)

    @property
    def max_gap(self) -> float | None:
        """The longest wait for a token after the first, if the times of tokens were kept."""
        gaps = [after - before for before, after in pairwise(self.token_times)]
        return max(gaps, default=None)

    @property
    def latency(self) -> float | None:
        """Seconds from arrival to the last token."""
        return None if self.last_token is None else self.last_token - self.arrival
