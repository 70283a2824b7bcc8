"""What a user gets back.  Fields are vLLM's."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Logprob:
    """Of one token at one position; rank 1 is the likeliest."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


PositionLogprobs = dict[int, Logprob]  # token id -> Logprob


@dataclass(frozen=True)
class RequestStateStats:
    """Times of a request.  `arrival_time` is seconds since 1970, the others are monotonic.

    `queued_ts`, … are None until they happened; `first_token_latency` is first_token_ts -
    queued_ts.
    """

    arrival_time: float
    queued_ts: float
    scheduled_ts: float | None = None
    first_token_ts: float | None = None
    last_token_ts: float | None = None
    num_generation_tokens: int = 0
    num_preemptions: int = 0

    @property
    def first_token_latency(self) -> float | None:
        return None if self.first_token_ts is None else self.first_token_ts - self.queued_ts


@dataclass(frozen=True)
class CompletionOutput:
    """One of a request's n samples.

    finish_reason: "stop", "length", "abort" or None while it goes on.  stop_reason: the string
    or token id that stopped it, None for the end-of-sequence token.  candidates: of a steered
    request that pauses, what may come next, the likeliest first.  If it was given a token that was
    not among them, that one is missing in `logprobs` and `cumulative_logprob` is None: unknown.
    score: what a beam search ranks by (see `BeamSearchSequence`).
    """

    index: int
    text: str
    token_ids: list[int] = field(repr=False)  # as a rule too many to read
    cumulative_logprob: float | None = None
    logprobs: list[PositionLogprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    candidates: PositionLogprobs | None = None
    score: float | None = None

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(frozen=True)
class RequestOutput:
    """A request's samples so far.  `num_cached_tokens` of the prompt came from the prefix cache.

    `prompt_logprobs` has an entry for each prompt token, None for the first.  Of deltas, only the
    first has those, and only the last has `metrics`.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] = field(repr=False)
    outputs: list[CompletionOutput]
    finished: bool
    prompt_logprobs: list[PositionLogprobs | None] | None = None
    metrics: RequestStateStats | None = field(default=None, repr=False)
    num_cached_tokens: int = 0


@dataclass(frozen=True)
class BeamSearchSequence:
    """One of the sequences that a beam search found.

    tokens: the prompt's, then the generated ones, with the token that ended them.  logprobs: of
    each generated token.  cum_logprob: their sum.  score: what the search ranks by, `cum_logprob`
    over a power of the number of generated tokens (`BeamSearchParams.length_penalty`).
    finish_reason: "stop" or "length".  stop_reason: the stop token's id, None for the
    end-of-sequence token.
    """

    tokens: list[int] = field(repr=False)
    logprobs: list[PositionLogprobs] = field(repr=False)
    cum_logprob: float
    score: float
    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(frozen=True)
class BeamSearchOutput:
    """What a beam search found for one prompt, the best first."""

    sequences: list[BeamSearchSequence]

    @classmethod
    def of(cls, output: RequestOutput) -> "BeamSearchOutput":
        """From a finished search's output as the engine reports it."""
        prompt = output.prompt_token_ids
        return cls(
            [
                BeamSearchSequence(
                    tokens=[*prompt, *found.token_ids],
                    logprobs=found.logprobs or [],
                    cum_logprob=found.cumulative_logprob or 0.0,
                    score=found.score or 0.0,
                    text=found.text,
                    finish_reason=found.finish_reason,
                    stop_reason=found.stop_reason,
                )
                for found in output.outputs
            ]
        )
