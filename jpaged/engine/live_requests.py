"""The requests in flight, and what befalls them between two steps.

add ──► in flight ──► take (a step's answer) ──► outputs ──► (gone)
          │  ▲  │
          └──┘  └──► drop, abort ──► (gone)
     fork, extend
"""

import time
from collections.abc import Iterable

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.beam_search import BeamSearchState
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.request_state import RequestState
from jpaged.engine.sample_state import SampleState
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestFailed, RequestRejected
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler


class LiveRequests:
    """What the engine keeps of each request until it has been reported for the last time."""

    def __init__(self, scheduler: Scheduler, tokenizer: Tokenizer | None):
        self.scheduler, self.tokenizer = scheduler, tokenizer
        self._states: dict[str, RequestState | BeamSearchState] = {}
        self._outputs: list[RequestOutput] = []  # not yet returned: Ctrl-C may follow a step

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._states

    @property
    def num_live(self) -> int:
        return len(self._states)

    @property
    def has_work(self) -> bool:
        """Whether a step would move anyone on, or there is something to report without one."""
        return bool(self._outputs) or not all(state.is_paused for state in self._states.values())

    def add(self, request: Request, prompt_text: str | None, steered: bool) -> None:
        sequences = self.scheduler.add(request, is_steered=steered)
        try:
            self._states[request.id] = RequestState(
                request, prompt_text, sequences, self.tokenizer, wall_arrival=time.time()
            )
        except BaseException:
            self.scheduler.abort(request.id)
            raise

    def add_beam_search(
        self, request: Request, prompt_text: str | None, params: BeamSearchParams
    ) -> None:
        [sequence] = self.scheduler.add(request, is_steered=True)
        self._states[request.id] = BeamSearchState(
            request, prompt_text, params, sequence, self.tokenizer
        )

    def find(self, request_id: str) -> RequestState:
        """A request that can be steered.  Raises `RequestRejected` if there is none such."""
        state = self._states.get(request_id) if isinstance(request_id, str) else None
        if isinstance(state, BeamSearchState):
            raise RequestRejected(
                f"request {request_id!r} is a beam search, which steers itself; abort_request "
                "ends it"
            )
        if state is None:
            raise RequestRejected(f"request {request_id!r} is unknown, or has ended")
        return state

    def fork(self, state: RequestState, sample: SampleState, request: Request) -> None:
        """Adds a request that goes on from where a sample of another one stands."""
        child = self.scheduler.fork(sample.sequence, request)
        self._states[request.id] = state.fork(request, sample.fork(child))

    def extend(self, state: RequestState, tokens: Iterable[int]) -> None:
        """Lets a steered request say these tokens, which may end it."""
        state.extend(tokens, self.scheduler)
        if state.is_finished:
            del self._states[state.request.id]
            self._outputs.append(state.output())

    def drop(self, request_id: str) -> RequestOutput:
        """Ends a request and returns what it had said."""
        state = self.find(request_id)
        self.scheduler.abort(request_id)
        del self._states[request_id]
        return state.output()

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends requests, which are not reported any more.  Unknown ids are no error."""
        ended = set(request_ids)
        for each in ended:
            self.scheduler.abort(each)
            self._states.pop(each, None)
        self._outputs = [output for output in self._outputs if output.request_id not in ended]

    def abort_all(self) -> None:
        self.abort(list(self._states))

    def take(
        self,
        advanced: Iterable[Sequence],
        output: StepOutput | None,
        batch: ScheduledBatch | None,
    ) -> None:
        """Enters what a step answered, if there was one: tokens, candidates, ends.

        Raises `RequestFailed` where that was not possible; then those requests have been ended,
        and the others have theirs.
        """
        if output is None or batch is None:
            return
        failures: dict[str, Exception] = {}
        self._take_prompt_logprobs(batch, output, failures)
        rows = {sequence: row for row, (sequence, _) in enumerate(batch.items)}
        moved: dict[str, RequestState | BeamSearchState] = {}
        for sequence in advanced:
            request_id = sequence.request.id
            state = self._states.get(request_id)
            if state is None:  # aborted while its step ran
                continue
            try:
                state.take(sequence, rows[sequence], output, self.scheduler)
            except Exception as error:  # one request's text must not be everybody's end
                failures[request_id] = error
            moved[request_id] = state
        for request_id, state in moved.items():
            if request_id not in failures:
                self._report(request_id, state, failures)
        if failures:
            self._fail(failures)

    def _report(
        self,
        request_id: str,
        state: RequestState | BeamSearchState,
        failures: dict[str, Exception],
    ) -> None:
        try:
            if state.is_due:
                self._outputs.append(state.output())
            if state.is_finished:
                del self._states[request_id]
        except Exception as error:  # as above
            failures[request_id] = error

    def _take_prompt_logprobs(
        self, batch: ScheduledBatch, output: StepOutput, failures: dict[str, Exception]
    ) -> None:
        for row, (first, entries) in output.prompt_logprobs.items():
            request_id = batch.items[row][0].request.id
            state = self._states.get(request_id)
            if isinstance(state, RequestState):
                try:
                    state.add_prompt_logprobs(first, entries)
                except Exception as error:  # as above
                    failures[request_id] = error

    def _fail(self, failures: dict[str, Exception]) -> None:
        self.abort(failures)
        reasons = {each: f"{type(error).__name__}: {error}" for each, error in failures.items()}
        text = "; ".join(f"request {each} failed: {reason}" for each, reason in reasons.items())
        raise RequestFailed(text, reasons) from next(iter(failures.values()))

    def pop_outputs(self) -> list[RequestOutput]:
        outputs, self._outputs = self._outputs, []
        return outputs
