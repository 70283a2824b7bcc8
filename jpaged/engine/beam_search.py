"""A beam search under way in the engine: its beams are sequences like any others.

    step ──► each live beam's candidates ──► Beams.advance ──► fork, extend, drop ──► step

The beams share the pages of what they have in common, and are batched with whatever else runs.
One that was preempted is computed again before all of them move on.
"""

import numpy as np

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.beams import Beams, Hypothesis
from jpaged.engine.outputs import CompletionOutput, Logprob, RequestOutput
from jpaged.engine.tokenizer import Tokenizer
from jpaged.scheduling.batch import StepOutput, TokenLogprobs
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler


class BeamSearchState:
    """What the engine keeps of one beam search.  `live` are the sequences of `beams.live`."""

    def __init__(
        self,
        request: Request,
        prompt_text: str | None,
        params: BeamSearchParams,
        sequence: Sequence,
        tokenizer: Tokenizer | None,
    ):
        self.request, self.prompt_text, self.params = request, prompt_text, params
        self.tokenizer = tokenizer
        self.beams = Beams(params, request.max_tokens, request.eos_token_ids)
        self.live = [sequence]
        self.answers: dict[Sequence, TokenLogprobs] = {}

    @property
    def is_finished(self) -> bool:
        return self.beams.is_done

    @property
    def is_paused(self) -> bool:
        """Never: it extends itself."""
        return False

    @property
    def is_due(self) -> bool:
        """Only the end is reported: until then any beam may lose."""
        return self.is_finished

    def take(self, sequence: Sequence, row: int, output: StepOutput, scheduler: Scheduler) -> None:
        """Notes a beam's candidates; with the last beam's all of them move on."""
        self.num_cached = self.live[0].num_cached
        self.answers[sequence] = output.logprobs[row]
        if len(self.answers) == len(self.live):
            answers = [self.answers[sequence] for sequence in self.live]
            self.answers = {}
            self._move_on(answers, scheduler)

    def _move_on(self, answers: list[TokenLogprobs], scheduler: Scheduler) -> None:
        tokens = np.array([answer.top_tokens for answer in answers])
        logprobs = np.array([answer.top_logprobs for answer in answers], np.float32)
        continuations = self.beams.advance(tokens, logprobs)
        if self.is_finished:
            self._end(scheduler)
            return
        parents, before = [each.parent for each in continuations], self.live
        for place, sequence in enumerate(before):
            if place not in parents:  # first, for its seat and its pages
                scheduler.finish(sequence, "abort")
        # forked before any is extended, for a fork has the tokens that its parent has then
        self.live = [
            scheduler.fork(before[parent], self.request)
            if parent in parents[:rank]
            else before[parent]
            for rank, parent in enumerate(parents)
        ]
        for sequence, continuation in zip(self.live, continuations, strict=True):
            scheduler.extend(sequence, continuation.token)

    def _end(self, scheduler: Scheduler) -> None:
        """The likeliest beam ends as the best sequence did: a search is counted once."""
        best, *others = self.live
        found = self.beams.hypotheses()
        scheduler.finish(best, found[0].finish_reason if found else "abort")
        for sequence in others:
            scheduler.finish(sequence, "abort")
        self.live = []

    def output(self) -> RequestOutput:
        """The sequences found, the best first."""
        found = enumerate(self.beams.hypotheses())
        return RequestOutput(
            request_id=self.request.id,
            prompt=self.prompt_text,
            prompt_token_ids=list(self.request.prompt),
            outputs=[self._completion(rank, hypothesis) for rank, hypothesis in found],
            finished=self.is_finished,
            num_cached_tokens=self.num_cached,
        )

    def _completion(self, rank: int, found: Hypothesis) -> CompletionOutput:
        texts = [self._decode([token], skip_special=False) for token in found.tokens]
        scored = zip(found.tokens, found.logprobs, texts, strict=True)
        is_silent = found.finish_reason == "stop" and not self.params.include_stop_str_in_output
        said = found.tokens[:-1] if is_silent else found.tokens
        return CompletionOutput(
            index=rank,
            text=self._decode(list(said), self.params.skip_special_tokens) or "",
            token_ids=list(found.tokens),
            cumulative_logprob=found.cumulative_logprob,
            logprobs=[{token: Logprob(p, decoded_token=text)} for token, p, text in scored],
            finish_reason=found.finish_reason,
            stop_reason=found.stop_reason,
            score=found.score,
        )

    def _decode(self, tokens: list[int], skip_special: bool) -> str | None:
        if self.tokenizer is None or not self.params.detokenize:
            return None
        return self.tokenizer.decode(tokens, skip_special_tokens=skip_special)
