"""The engine that one can single-step: requests go in, `step()` moves all of them on."""

import time
from collections import deque
from typing import Any

from jpaged.config import EngineConfig
from jpaged.engine.build import (
    build_executor,
    build_model,
    build_scheduler,
    build_tokenizer,
    plan_sizes,
)
from jpaged.engine.door import CheckedRequest, Door, Prompt
from jpaged.engine.interrupts import deferred_interrupts
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.request_state import RequestState, SequenceState
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestRejected
from jpaged.runner.memory import MemoryReport
from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.request import Request, Sequence

KEPT_RECORDS = 10_000


class LLMEngine:
    """Continuous batching over a paged cache.

        engine = LLMEngine("demo")
        engine.add_request("a", "Once upon a time", SamplingParams(max_tokens=20))
        while engine.has_unfinished_requests():
            for output in engine.step():
                print(output.outputs[0].text)

    Options are those of `EngineConfig`.  `records` holds what the latest steps did.
    """

    def __init__(self, model: str, **options: Any):
        self.config = EngineConfig.from_options(model, **options)
        folder, self.model = build_model(self.config)
        self.folder = folder
        self.sizes = plan_sizes(self.config, self.model)
        self.scheduler = build_scheduler(self.config, self.sizes)
        self.tokenizer = build_tokenizer(self.config, folder)
        self.executor = build_executor(self.config, folder, self.model, self.sizes)
        self.records: deque[StepRecord] = deque(maxlen=KEPT_RECORDS)
        self.loop = ServingLoop(
            self.scheduler,
            self.executor,
            time.monotonic,
            self.records.append,
            ahead=int(self.config.async_scheduling),
        )
        self._states: dict[str, RequestState] = {}
        self._outputs: list[RequestOutput] = []  # of a step that Ctrl-C followed
        self._num_requests = 0
        self._is_closed = False

    @property
    def door(self) -> Door:
        return Door(
            tokenizer=self.tokenizer,
            vocab=self.model.vocab,
            max_model_len=self.sizes.max_model_len,
            max_logprobs=self.config.max_logprobs,
            eos_token_ids=self.eos_token_ids,
            seed=self.config.seed,
        )

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The checkpoint's and, as in vLLM, the tokenizer's: chat models often differ there."""
        named = None if self.tokenizer is None else self.tokenizer.hf.eos_token_id
        return self.model.eos_token_ids | (frozenset() if named is None else {named})

    def get_tokenizer(self) -> Any:
        """The Hugging Face tokenizer.  Raises `RequestRejected` if the engine has none."""
        return self.need_tokenizer().hf

    def need_tokenizer(self) -> Tokenizer:
        """Our tokenizer.  Raises `RequestRejected` if the engine has none."""
        if self.tokenizer is None:
            raise RequestRejected("this engine was built with skip_tokenizer_init=True")
        return self.tokenizer

    def check(
        self,
        request_id: str,
        prompt: Prompt,
        params: SamplingParams,
        priority: int = 0,
        arrival_time: float | None = None,
    ) -> CheckedRequest:
        """The request as it would be queued.  Raises `RequestRejected`; changes nothing."""
        if self._is_closed:
            raise RequestRejected("this engine is closed")
        if request_id in self._states:
            raise RequestRejected(f"request id {request_id!r} is in flight; choose another")
        request, text = self.door.admit(
            request_id,
            prompt,
            params,
            arrival=time.monotonic() if arrival_time is None else arrival_time,
            priority=priority,
            serial=self._num_requests,
        )
        self._num_requests += 1
        return request, text

    def add_request(
        self,
        request_id: str,
        prompt: Prompt,
        params: SamplingParams | None = None,
        arrival_time: float | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Queues a request.  Raises `RequestRejected`, and then nothing has changed.

        arrival_time: seconds of `time.monotonic()`, now if None.
        """
        params = params or SamplingParams()
        self.enqueue(*self.check(request_id, prompt, params, priority, arrival_time))
        return request_id

    def enqueue(self, request: Request, prompt_text: str | None) -> None:
        """Queues what `check` returned."""
        sequences = self.scheduler.add(request)
        self._states[request.id] = RequestState(
            request, prompt_text, sequences, self.tokenizer, wall_arrival=time.time()
        )

    def has_unfinished_requests(self) -> bool:
        return bool(self._states or self._outputs)

    def get_num_unfinished_requests(self) -> int:
        return len(self._states)

    def abort_request(self, request_id: str | list[str]) -> None:
        """Ends requests and frees their pages.  Unknown ids are no error."""
        ended = [request_id] if isinstance(request_id, str) else request_id
        for each in ended:
            self.scheduler.abort(each)
            self._states.pop(each, None)
        self._outputs = [output for output in self._outputs if output.request_id not in ended]

    def step(self) -> list[RequestOutput]:
        """Runs one step.  Returns the outputs of the requests that it moved on.

        Ctrl-C waits for the end of the step, and loses nothing: the next call returns the outputs.
        """
        with deferred_interrupts():
            self._outputs += self._step()
        outputs, self._outputs = self._outputs, []
        return outputs

    def _step(self) -> list[RequestOutput]:
        advanced, output, batch = self.loop.step()
        if batch is None or output is None:
            return []
        self._take_prompt_logprobs(batch, output)
        rows = {sequence: row for row, (sequence, _) in enumerate(batch.items)}
        moved: dict[str, RequestState] = {}
        for sequence in advanced:
            state = self._states.get(sequence.request.id)
            if state is not None:  # None: aborted while its step ran
                self._take_token(state.samples[sequence.index], output, rows[sequence])
                moved[sequence.request.id] = state
        return [state.output() for state in moved.values() if self._is_due(state)]

    def _take_token(self, sample: SequenceState, output: StepOutput, row: int) -> None:
        """Adds a new token's text and log-probability; a stop string ends the sequence."""
        if row in output.logprobs:
            sample.add_logprobs(output.logprobs[row], self.tokenizer)
        stop = sample.push(sample.sequence.tokens[-1])
        if stop is not None:
            self._stop_at(sample.sequence, stop)

    def _stop_at(self, sequence: Sequence, stop: str) -> None:
        if sequence.is_finished:  # by its length, in the same step
            sequence.finish_reason, sequence.stop_reason = "stop", stop
        else:
            self.scheduler.finish(sequence, "stop", stop)

    def _take_prompt_logprobs(self, batch: ScheduledBatch, output: StepOutput) -> None:
        for row, (first, entries) in output.prompt_logprobs.items():
            state = self._states.get(batch.items[row][0].request.id)
            if state is not None:
                state.add_prompt_logprobs(first, entries)

    def _is_due(self, state: RequestState) -> bool:
        """Whether to report the request now; a finished one is forgotten."""
        if state.is_finished:
            del self._states[state.request.id]
            return True
        return state.request.params.output_kind is not RequestOutputKind.FINAL_ONLY

    def reset_prefix_cache(self) -> bool:
        """Forgets all cached prefixes, so that nothing computed so far is found again.

        Requests in flight keep their pages.  Always True, as in vLLM when it succeeds.
        """
        self.scheduler.reset_prefix_cache()
        return True

    @property
    def num_late_compilations(self) -> int:
        """How often something was compiled after warm-up; 0, or a bug."""
        return self.executor.late.count

    def memory_report(self) -> MemoryReport:
        """What weights, cache and steps take, and what is free.  `print` it for a table."""
        return self.executor.memory_report()

    def close(self) -> None:
        """Aborts what is in flight and frees the weights, the cache and the compiled steps."""
        if not self._is_closed:
            self.abort_request(list(self._states))
            self.loop.drop_ended()  # a step on its way holds arrays
            self.executor.close()
            self._is_closed = True
