"""What the engine keeps of one sample beside its sequence: text and log-probabilities so far."""

import copy

from jpaged.engine.outputs import CompletionOutput, Logprob, PositionLogprobs
from jpaged.engine.tokenizer import TextStream, Tokenizer
from jpaged.sampling_params import RequestOutputKind
from jpaged.scheduling.batch import TokenLogprobs
from jpaged.scheduling.request import Sequence


class SampleState:
    """One sample's text so far, and whether a stop string stands in it."""

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer | None):
        params = sequence.request.params
        self.sequence = sequence
        self.params = params
        self._is_delta = params.output_kind is RequestOutputKind.DELTA
        self.text = ""
        self.logprobs: list[PositionLogprobs] = []
        self.candidates: PositionLogprobs | None = None  # of a steered sequence that pauses
        self.cumulative_logprob = 0.0
        self.is_scored = True  # every token's log-probability is known
        self.num_sent_chars = self.num_sent_tokens = 0
        self._stream = (
            TextStream(tokenizer, sequence.request.prompt, params.skip_special_tokens)
            if tokenizer is not None and params.detokenize
            else None
        )

    def fork(self, sequence: Sequence) -> "SampleState":
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
        if self.sequence.is_finished:
            new = "" if self._is_silent_end() else self._stream.push(token)
            new += self._stream.flush()
        else:
            new = self._stream.push(token)
        self.text += new
        if not new or not self.params.stop:
            return None
        if self.sequence.num_generated < self.params.min_tokens:
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
        """A steered sequence goes on with this token, which somebody chose.

        How likely one is that was not offered, nobody knows: its step is over.
        """
        offered = self.candidates or {}
        if token in offered:
            offered = {token: offered[token], **offered}
            self.cumulative_logprob += offered[token].logprob
        else:
            self.is_scored = False
        self.logprobs.append(offered)
        self.candidates = None

    def add_logprobs(self, entry: TokenLogprobs, tokenizer: Tokenizer | None) -> None:
        self.logprobs.append(as_position(entry, tokenizer))
        self.cumulative_logprob += entry.logprob

    def _visible_text(self) -> str:
        """While more may come, what could be the beginning of a stop string stays hidden."""
        if not self.params.stop:
            return self.text
        held = max(map(len, self.params.stop)) - 1
        if self.sequence.is_finished or self.params.include_stop_str_in_output or not held:
            return self.text
        return self.text[:-held]

    @property
    def is_due(self) -> bool:
        """Whether there is something to say; of deltas, only those that are not empty."""
        return not self._is_delta or self.sequence.num_generated > self.num_sent_tokens

    def output(self, rank: int | None = None) -> CompletionOutput:
        """rank: the sample's place among those that are returned, if they are ranked."""
        text, logprobs, first = self._visible_text(), self.logprobs, self.sequence.num_prompt
        if self._is_delta:
            first += self.num_sent_tokens
            logprobs = logprobs[self.num_sent_tokens :]
            text, self.num_sent_chars = text[self.num_sent_chars :], len(text)
            self.num_sent_tokens = self.sequence.num_generated
        tokens = self.sequence.tokens[first:]
        wants = self.params.logprobs is not None
        is_scored = self.is_scored and (wants or rank is not None)
        return CompletionOutput(
            index=self.sequence.index if rank is None else rank,
            text=text,
            token_ids=tokens,
            cumulative_logprob=self.cumulative_logprob if is_scored else None,
            logprobs=list(logprobs) if wants else None,
            candidates=self.candidates,
            finish_reason=self.sequence.finish_reason,
            stop_reason=self.sequence.stop_reason,
        )


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
