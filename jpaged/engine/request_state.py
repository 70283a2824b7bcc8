"""What the engine keeps of a request beside its sequences: text, log-probabilities, output."""

import copy
from collections.abc import Iterable

from jpaged.engine.outputs import (
    CompletionOutput,
    Logprob,
    PositionLogprobs,
    RequestOutput,
    RequestStateStats,
)
from jpaged.engine.tokenizer import TextStream, Tokenizer
from jpaged.sampling_params import RequestOutputKind
from jpaged.scheduling.batch import StepOutput, TokenLogprobs
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler


class SequenceState:
    """One sample's text so far, and whether a stop string stands in it."""

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer | None):
        params = sequence.request.params
        self.sequence = sequence
        self.params = params
        self.text = ""
        self.logprobs: list[PositionLogprobs] = []
        self.candidates: PositionLogprobs | None = None  # of a steered sequence that pauses
        self.cumulative_logprob = 0.0
        self.num_sent_chars = self.num_sent_tokens = 0
        self._stream = (
            TextStream(tokenizer, sequence.request.prompt, params.skip_special_tokens)
            if tokenizer is not None and params.detokenize
            else None
        )

    def fork(self, sequence: Sequence) -> "SequenceState":
        """The same text and log-probabilities so far, for another sequence."""
        child = copy.copy(self)
        child.sequence, child.params = sequence, sequence.request.params
        child.logprobs = list(self.logprobs)
        child._stream = copy.copy(self._stream)
        return child

    @property
    def mean_logprob(self) -> float:
        return self.cumulative_logprob / max(1, self.sequence.num_generated)

    def push(self, token: int) -> str | None:
        """Adds a token's text.  Returns the stop string that it completes, if it does."""
        if self._stream is None:
            return None
        new = "" if self._is_silent_end() else self._stream.push(token)
        if self.sequence.is_finished:
            new += self._stream.flush()
        self.text += new
        if not new or self.sequence.num_generated < self.params.min_tokens:
            return None
        return self._find_stop(len(new))

    def _is_silent_end(self) -> bool:
        """A stop token ends the text without being part of it."""
        ended = self.sequence.finish_reason == "stop"
        return ended and not self.params.include_stop_str_in_output

    def _find_stop(self, num_new: int) -> str | None:
        """The earliest stop string that ends within the new text; cuts the text there."""
        found = []
        for stop in self.params.stop or ():
            at = self.text.find(stop, max(0, len(self.text) - num_new - len(stop) + 1))
            if at >= 0:
                found.append((at, stop))
        if not found:
            return None
        at, stop = min(found)
        self.text = self.text[: at + len(stop) * self.params.include_stop_str_in_output]
        return stop

    def choose(self, token: int) -> None:
        """A steered sequence goes on with this token, which somebody chose."""
        chosen = (self.candidates or {}).get(token)
        # a token that was not offered was forced: how likely it was is not asked
        self.logprobs.append({token: chosen} if chosen else {})
        self.cumulative_logprob += chosen.logprob if chosen else 0.0
        self.candidates = None
        self.push(token)

    def add_logprobs(self, entry: TokenLogprobs, tokenizer: Tokenizer | None) -> None:
        self.logprobs.append(as_position(entry, tokenizer))
        self.cumulative_logprob += entry.logprob

    def _visible_text(self) -> str:
        """While more may come, what could be the beginning of a stop string stays hidden."""
        held = max((len(stop) for stop in self.params.stop or ()), default=1) - 1
        if self.sequence.is_finished or self.params.include_stop_str_in_output or not held:
            return self.text
        return self.text[:-held]

    @property
    def is_due(self) -> bool:
        """Whether there is something to say; of deltas, only those that are not empty."""
        is_delta = self.params.output_kind is RequestOutputKind.DELTA
        return not is_delta or self.sequence.num_generated > self.num_sent_tokens

    def output(self, rank: int | None = None) -> CompletionOutput:
        """rank: the sample's place among those that are returned, if they are ranked."""
        text, tokens, logprobs = self._visible_text(), self.sequence.generated, self.logprobs
        if self.params.output_kind is RequestOutputKind.DELTA:
            new_text, new_tokens = text[self.num_sent_chars :], tokens[self.num_sent_tokens :]
            logprobs = logprobs[self.num_sent_tokens :]
            self.num_sent_chars, self.num_sent_tokens = len(text), len(tokens)
            text, tokens = new_text, new_tokens
        wants = self.params.logprobs is not None
        return CompletionOutput(
            index=self.sequence.index if rank is None else rank,
            text=text,
            token_ids=tokens,
            cumulative_logprob=self.cumulative_logprob if wants or rank is not None else None,
            logprobs=list(logprobs) if wants else None,
            candidates=self.candidates,
            finish_reason=self.sequence.finish_reason,
            stop_reason=self.sequence.stop_reason,
        )


class RequestState:
    """A request under way: its n sequences, and what was learnt about its prompt."""

    def __init__(
        self,
        request: Request,
        prompt_text: str | None,
        sequences: Iterable[Sequence],
        tokenizer: Tokenizer | None,
        wall_arrival: float,
    ):
        self.request = request
        self.prompt_text = prompt_text
        self.wall_arrival = wall_arrival
        self.tokenizer = tokenizer
        self.samples = [SequenceState(sequence, tokenizer) for sequence in sequences]
        self._prompt_logprobs: dict[int, PositionLogprobs] = {}

    def fork(self, request: Request, sequence: Sequence, index: int) -> "RequestState":
        """Another request, which goes on from where sample `index` stands."""
        child = copy.copy(self)
        child.request = request
        child.samples = [self.samples[index].fork(sequence)]
        child._prompt_logprobs = dict(self._prompt_logprobs)
        return child

    @property
    def is_finished(self) -> bool:
        return all(sample.sequence.is_finished for sample in self.samples)

    @property
    def is_due(self) -> bool:
        """Whether to report after a step that moved the request on."""
        is_final_only = self.request.params.output_kind is RequestOutputKind.FINAL_ONLY
        return self.is_finished or not is_final_only

    def take(self, sequence: Sequence, row: int, output: StepOutput, scheduler: Scheduler) -> None:
        """Adds what a step says of a sequence: its new token, or what may come next."""
        sample = self.samples[sequence.index]
        if sequence.is_steered:
            sample.candidates = as_position(output.logprobs[row], self.tokenizer, is_chosen=False)
            return
        if row in output.logprobs:
            sample.add_logprobs(output.logprobs[row], self.tokenizer)
        stop = sample.push(sequence.tokens[-1])
        if stop is None:
            return
        if sequence.is_finished:  # by its length, in the same step
            sequence.finish_reason, sequence.stop_reason = "stop", stop
        else:
            scheduler.finish(sequence, "stop", stop)

    def add_prompt_logprobs(self, first: int, entries: Iterable[TokenLogprobs]) -> None:
        """Entries for the prompt positions from `first` on; a recomputed one replaces itself."""
        for place, entry in enumerate(entries, start=first):
            self._prompt_logprobs[place] = as_position(entry, self.tokenizer)

    def output(self) -> RequestOutput:
        request = self.request
        return RequestOutput(
            request_id=request.id,
            prompt=self.prompt_text,
            prompt_token_ids=list(request.prompt),
            outputs=self._outputs(),
            finished=self.is_finished,
            prompt_logprobs=self._prompt_output(),
            metrics=self._metrics(),
            num_cached_tokens=self.samples[0].sequence.num_cached,
        )

    def _outputs(self) -> list[CompletionOutput]:
        params = self.request.params
        if params.num_samples == params.n:
            return [sample.output() for sample in self.samples if sample.is_due]
        ranked = sorted(self.samples, key=lambda sample: -sample.mean_logprob)[: params.n]
        return [sample.output(rank) for rank, sample in enumerate(ranked)]

    def _prompt_output(self) -> list[PositionLogprobs | None] | None:
        if self.request.params.prompt_logprobs is None:
            return None
        return [self._prompt_logprobs.get(place) for place in range(len(self.request.prompt))]

    def _metrics(self) -> RequestStateStats:
        sequences = [sample.sequence for sample in self.samples]
        timings = [sequence.timing for sequence in sequences]
        return RequestStateStats(
            arrival_time=self.wall_arrival,
            queued_ts=self.request.arrival,
            scheduled_ts=_earliest(timing.scheduled for timing in timings),
            first_token_ts=_earliest(timing.first_token for timing in timings),
            last_token_ts=max(
                (t.last_token for t in timings if t.last_token is not None), default=None
            ),
            num_generation_tokens=sum(sequence.num_generated for sequence in sequences),
            num_preemptions=sum(sequence.num_preemptions for sequence in sequences),
        )


def _earliest(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)


def as_position(
    entry: TokenLogprobs, tokenizer: Tokenizer | None, is_chosen: bool = True
) -> PositionLogprobs:
    """The likeliest tokens in order, and the chosen one, if there is one, wherever it ranks."""

    def text_of(token: int) -> str | None:
        return None if tokenizer is None else tokenizer.decode([token], skip_special_tokens=False)

    chosen = {entry.token: Logprob(entry.logprob, entry.rank, text_of(entry.token))}
    position = chosen if is_chosen else {}
    ranked = zip(entry.top_tokens, entry.top_logprobs, strict=True)
    for rank, (token, logprob) in enumerate(ranked, start=1):
        position.setdefault(token, Logprob(logprob, rank, text_of(token)))
    return position
