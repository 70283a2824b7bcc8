"""What the engine keeps of a request beside its sequences, and how it is reported."""

import copy
from collections.abc import Iterable

from jpaged.engine.outputs import (
    CompletionOutput,
    PositionLogprobs,
    RequestOutput,
    RequestStateStats,
)
from jpaged.engine.sample_state import SampleState, as_position
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestRejected
from jpaged.sampling_params import RequestOutputKind
from jpaged.scheduling.batch import StepOutput, TokenLogprobs
from jpaged.scheduling.request import Request, Sequence, Status
from jpaged.scheduling.scheduler import Scheduler
from jpaged.scheduling.stopping import finish_of


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
        self.prompt_token_ids = list(request.prompt)  # all outputs have this one
        self.prompt_text = prompt_text
        self.wall_arrival = wall_arrival
        self.tokenizer = tokenizer
        self.samples = [SampleState(sequence, tokenizer) for sequence in sequences]
        self._is_ranked = request.params.num_samples > request.params.n
        self._prompt_logprobs: dict[int, PositionLogprobs] = {}

    def fork(self, request: Request, sample: SampleState) -> "RequestState":
        """Another request, whose only sample is a fork of one of these.

        It has the prompt's log-probabilities in common: only one of the two computes the prompt.
        """
        child = copy.copy(self)
        child.request, child.samples = request, [sample]
        return child

    def living_sample(self, index: int) -> SampleState:
        """One of the samples as they are reported.  Raises `RequestRejected` if it has ended."""
        reported = self._reported()
        is_there = isinstance(index, int) and 0 <= index < len(reported)
        if not is_there or reported[index].sequence.is_finished:
            what = "has ended" if is_there else f"is not one of its {len(reported)}"
            raise RequestRejected(f"sample {index!r} of request {self.request.id!r} {what}")
        return reported[index]

    @property
    def is_finished(self) -> bool:
        for sample in self.samples:  # not `all`: this is asked of everybody at every step
            if sample.sequence.status is not Status.FINISHED:
                return False
        return True

    @property
    def is_paused(self) -> bool:
        """Whether nothing happens to it before somebody extends it."""
        sequences = [sample.sequence for sample in self.samples]
        return all(each.is_paused and not each.num_expected for each in sequences)

    @property
    def is_due(self) -> bool:
        """Whether to report after a step that moved the request on."""
        is_final_only = self.request.params.output_kind is RequestOutputKind.FINAL_ONLY
        return not is_final_only or self.is_finished

    def take(self, sequence: Sequence, row: int, output: StepOutput, scheduler: Scheduler) -> None:
        """Adds what a step says of a sequence: its new token, or what may come next."""
        sample = self.samples[sequence.index]
        if sequence.is_steered:
            sample.candidates = as_position(output.logprobs[row], self.tokenizer, is_chosen=False)
            return
        if row in output.logprobs:
            sample.add_logprobs(output.logprobs[row], self.tokenizer)
        self._write(sample, scheduler)

    def extend(self, tokens: Iterable[int], scheduler: Scheduler) -> None:
        """Lets a steered sequence say these tokens, as far as none of them ends it."""
        [sample] = self.samples
        for token in tokens:
            scheduler.extend(sample.sequence, token)
            sample.choose(token)
            ending = finish_of(sample.sequence)
            if ending is not None:
                scheduler.finish(sample.sequence, *ending)
            self._write(sample, scheduler)
            if sample.sequence.is_finished:
                return

    def _write(self, sample: SampleState, scheduler: Scheduler) -> None:
        """Adds the newest token's text, which may complete a stop string."""
        sequence = sample.sequence
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
        """What there is to say now.  Of deltas the first has the prompt's log-probabilities, the
        last the metrics."""
        is_finished = self.is_finished
        is_delta = self.request.params.output_kind is RequestOutputKind.DELTA
        return RequestOutput(
            request_id=self.request.id,
            prompt=self.prompt_text,
            prompt_token_ids=self.prompt_token_ids,
            prompt_logprobs=self._prompt_output(),  # before the samples note that they were sent
            outputs=self._outputs(),
            finished=is_finished,
            metrics=self._metrics() if is_finished or not is_delta else None,
            num_cached_tokens=self.samples[0].sequence.num_cached,
        )

    def _outputs(self) -> list[CompletionOutput]:
        if self._is_ranked:
            return [sample.output(rank) for rank, sample in enumerate(self._reported())]
        return [sample.output() for sample in self.samples if sample.is_due]

    def _reported(self) -> list[SampleState]:
        """The samples, or the best of them."""
        if not self._is_ranked:
            return self.samples
        ranked = sorted(self.samples, key=lambda sample: -sample.mean_logprob)
        return ranked[: self.request.params.n]

    def _prompt_output(self) -> list[PositionLogprobs | None] | None:
        if self.request.params.prompt_logprobs is None:
            return None
        if any(sample.num_sent_tokens for sample in self.samples):  # deltas
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
