"""The engine that one can single-step: requests go in, `step()` moves all of them on."""

import copy
import dataclasses
import functools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from jpaged import policies
from jpaged.beam_search_params import BeamSearchParams
from jpaged.config import EngineConfig
from jpaged.engine.build import (
    build_executor,
    build_model,
    build_scheduler,
    build_tokenizer,
    plan_sizes,
)
from jpaged.engine.door import CheckedRequest, Door, Prompt, check_type, plain_ids
from jpaged.engine.interrupts import deferred_interrupts
from jpaged.engine.live_requests import LiveRequests
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.recording import Recorder
from jpaged.engine.resuming import HostState, plain_config, put, take
from jpaged.engine.snapshot import SIZES, Mark, Snapshot, check_snapshot, mark_of_checkpoint
from jpaged.engine.stats import EngineStats
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestRejected, SnapshotMismatch
from jpaged.runner.cores import leave_a_core
from jpaged.runner.memory import MemoryReport
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.report import PageReport, page_report
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.terms import NO_TERMS, Terms

KEPT_RECORDS = 10_000
CheckedSearch = tuple[Request, tuple[str | None, BeamSearchParams]]  # and the prompt's text


class LLMEngine:
    """Continuous batching over a paged cache.

        engine = LLMEngine("demo")
        engine.add_request("a", "Once upon a time", SamplingParams(max_tokens=20))
        while engine.has_unfinished_requests():
            for output in engine.step():
                print(output.outputs[0].text)

    Options are those of `EngineConfig`.  `records` holds what the latest steps did, `ended` how the
    latest sequences fared.
    """

    def __init__(self, model: str, **options: Any):
        self.config = EngineConfig.from_options(model, **options)
        folder, self.model = build_model(self.config, with_weights=self.config.pretend is None)
        self.folder = folder
        if self.config.pretend is None:
            leave_a_core(self.model.num_parameters)
        self.sizes = plan_sizes(self.config, self.model)
        self.scheduler = build_scheduler(self.config, self.sizes)
        self.tokenizer = build_tokenizer(self.config, folder, self.model.vocab)
        self.executor = build_executor(self.config, folder, self.model, self.sizes, self.tokenizer)
        self._start()
        self.live = LiveRequests(self.scheduler, self.tokenizer)
        self._num_requests = 0
        self._recorder: Recorder | None = None
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
        terms: Terms = NO_TERMS,
    ) -> CheckedRequest:
        """The request as it would be queued.  Raises `RequestRejected`; changes nothing."""
        self._refuse_closed()
        self._refuse_known(request_id)
        request, text = self.door.admit(
            request_id,
            prompt,
            params,
            arrival=self.clock() if arrival_time is None else arrival_time,
            priority=priority,
            serial=self._num_requests,
            terms=terms,
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
        steered: bool = False,
        terms: Terms = NO_TERMS,
    ) -> str:
        """Queues a request.  Raises `RequestRejected`, and then nothing has changed.

        arrival_time: seconds of `time.monotonic()`, now if None.  terms: whose it is and what was
        promised, for policies and reports.  steered: it chooses no tokens
        but pauses with `candidates`, the `params.logprobs` likeliest by the model alone, until
        `extend` is called.
        """
        params = params or SamplingParams()
        if steered:
            self.door.check_steered(params)
        request, text = self.check(request_id, prompt, params, priority, arrival_time, terms)
        self.enqueue(request, text, steered)
        return request_id

    def add_beam_search(
        self,
        request_id: str,
        prompt: Prompt,
        params: BeamSearchParams,
        arrival_time: float | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Queues a beam search, which `step` reports when it has ended.

        Raises `RequestRejected`, and then nothing has changed.
        """
        self.enqueue_beam_search(
            *self.check_beam_search(request_id, prompt, params, priority, arrival_time)
        )
        return request_id

    def check_beam_search(
        self,
        request_id: str,
        prompt: Prompt,
        params: BeamSearchParams,
        priority: int = 0,
        arrival_time: float | None = None,
    ) -> CheckedSearch:
        """The search as it would be queued.  Raises `RequestRejected`; changes nothing."""
        check_type("params", params, BeamSearchParams)
        sampling = self.door.beam_sampling(params, self.sizes.max_num_seqs)
        request, text = self.check(request_id, prompt, sampling, priority, arrival_time)
        request = dataclasses.replace(request, logprobs_divisor=params.logit_divisor)
        return request, (text, params)

    def enqueue_beam_search(
        self, request: Request, rest: tuple[str | None, BeamSearchParams]
    ) -> None:
        """Queues what `check_beam_search` returned."""
        text, params = rest
        self._note("beam_search", request=request, text=text, search=params)
        self.live.add_beam_search(request, text, params)

    def enqueue(self, request: Request, prompt_text: str | None, steered: bool = False) -> None:
        """Queues what `check` returned."""
        self._note("enqueue", request=request, text=prompt_text, steered=steered)
        self.live.add(request, prompt_text, steered)

    def fork(
        self,
        request_id: str,
        new_id: str | None = None,
        *,
        index: int = 0,
        seed: int | None = None,
    ) -> str:
        """Starts a request that goes on from where another one stands.  Returns its id.

        The two share their pages and part ways from here: with another seed (the engine's choice
        if None), or as `extend` says.  index: which of the samples as they are reported.  Raises
        `RequestRejected` for one that is unknown or has ended.
        """
        state = self.live.find(request_id)
        sample = state.living_sample(index)
        new_id = self._free_id() if new_id is None else new_id
        request = self.door.forked(state.request, new_id, seed, serial=self._num_requests)
        self._refuse_known(new_id)
        self._num_requests += 1
        self._note("fork", request_id=request_id, index=index, request=request)
        self.live.fork(state, sample, request)
        return new_id

    def extend(self, request_id: str, tokens: int | Iterable[int]) -> None:
        """Gives a steered request its next token, or several.  It pauses again behind them, when
        some later `step` has its candidates (not always the next one: it may have to wait).

        It ends where any other would (at `max_tokens`, an end of sequence, a stop string) and says
        nothing that was given behind that; the next `step` reports it.  Raises `RequestRejected`,
        and then nothing has changed.
        """
        state = self.live.find(request_id)
        given = plain_ids(tokens if isinstance(tokens, Iterable) else [tokens])
        self.door.check_extension(state.request, state.samples[0].sequence, given)
        self._note("extend", request_id=request_id, tokens=given)
        self.live.extend(state, given)

    def drop(self, request_id: str) -> RequestOutput:
        """Ends a request, frees what it alone holds, and returns what it had said.

        Raises `RequestRejected` for one that is unknown or has ended.
        """
        output = self.live.drop(request_id)
        self._note("drop", request_id=request_id)
        return output

    def _free_id(self) -> str:
        names = (f"fork-{number}" for number in count(self._num_requests))
        return next(name for name in names if name not in self.live)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise RequestRejected("this engine is closed")

    def _refuse_known(self, request_id: str) -> None:
        if request_id in self.live:
            raise RequestRejected(f"request id {request_id!r} is in flight; choose another")

    def has_unfinished_requests(self) -> bool:
        """Whether `step` has anything to do or to report.

        It has not when all that is left are steered requests that pause.
        """
        return self.live.has_work

    def get_num_unfinished_requests(self) -> int:
        """Those that have not ended, the ones that pause included."""
        return self.live.num_live

    def abort_request(self, request_id: str | list[str]) -> None:
        """Ends requests and frees their pages.  Unknown ids are no error."""
        ids = [request_id] if isinstance(request_id, str) else request_id
        self._note("abort", request_ids=list(ids))
        self.live.abort(ids)

    def step(self) -> list[RequestOutput]:
        """Runs one step.  Returns the outputs of the requests that it moved on.

        Ctrl-C waits for the end of the step, and loses nothing: the next call returns the outputs.
        """
        with deferred_interrupts():
            self._take(*self.loop.step())
        return self.live.pop_outputs()

    def _take(
        self,
        advanced: list[Sequence],
        output: StepOutput | None,
        batch: ScheduledBatch | None,
    ) -> None:
        if self._recorder is not None:
            launched = self.executor.pop_launched()
            self._recorder.step(self.loop.num_steps - 1, advanced, output, batch, launched)
        self.live.take(advanced, output, batch)

    def _settle(self) -> None:
        """Waits for the steps under way; their outputs come with the next `step`."""
        if self.loop.is_underway:
            self._note("settle")
        with deferred_interrupts():
            while self.loop.is_underway:
                self._take(*self.loop.collect())

    @contextmanager
    def record(self, path: str | Path) -> Iterator[None]:
        """Writes down all that happens meanwhile, as JSON lines, for `Replay` to do it again.

        Begins with an empty prefix cache, and when nothing is in flight: raises `RequestRejected`
        otherwise.
        """
        if self.live.num_live or self.live.has_work or self._recorder is not None:
            raise RequestRejected(
                f"{self.live.num_live} requests are in flight, or a recording is; it begins when "
                "nothing is"
            )
        self.reset_prefix_cache()
        header = {
            "config": plain_config(self.config),
            "mark": asdict(self.mark),
            "policy": self.scheduler.policy,
            "num_scheduled": self.scheduler.num_scheduled,
            "num_steps": self.loop.num_steps,
        }
        self.executor.pop_launched()
        self._recorder = Recorder(path, header, self.clock)
        self.loop.clock = self._recorder.clock
        try:
            yield
        finally:
            self._settle()
            self.loop.clock = self.clock
            self._recorder.close()
            self._recorder = None

    def _note(self, call: str, **arguments: Any) -> None:
        if self._recorder is not None:
            self._recorder.call(call, **arguments)

    def set_policy(self, policy: str | Policy) -> None:
        """Lets another policy decide from the next step on; nobody in flight is harmed."""
        resolved = policies.resolve(policy)
        self._note("set_policy", policy=resolved)
        self.scheduler.policy = resolved

    def reset_prefix_cache(self) -> bool:
        """Forgets all cached prefixes, so that nothing computed so far is found again.

        Requests in flight keep their pages.  Always True, as in vLLM when it succeeds.
        """
        self._note("reset_prefix_cache")
        self.scheduler.reset_prefix_cache()
        return True

    @property
    def num_late_compilations(self) -> int:
        """How often something was compiled after warm-up; 0, or a bug."""
        return self.executor.late.count

    def memory_report(self) -> MemoryReport:
        """What weights, cache and steps take, and what is free.  `print` it for a table."""
        return self.executor.memory_report()

    def page_report(self) -> PageReport:
        """Who holds which part of the cache now.  `print` it for a table."""
        return page_report(self.scheduler)

    def stats(self) -> EngineStats:
        """How much is going on, and what was done so far."""
        return EngineStats.of(self.loop, self.executor.num_compiled, self.num_late_compilations)

    def snapshot(self) -> Snapshot:
        """All that is in flight, as a value: to `save`, to `branch` from, or to `restore` later.

        A step under way ends first; its outputs come with the next `step()`, here and wherever
        somebody goes on from the snapshot.
        """
        self._refuse_closed()
        self._settle()
        return take(self._host_state(), self.executor, self.mark, self.config, self.clock())

    def restore(self, snapshot: Snapshot, policy: str | Policy | None = None) -> None:
        """Goes on where the snapshot was taken; under another policy, if one is given.

        Raises `SnapshotMismatch` if it is of another model, of other sizes, or if requests are in
        flight here, and `ConfigError` for what is no policy.
        """
        check_snapshot(snapshot)
        chosen = None if policy is None else policies.resolve(policy)
        self.mark.check(snapshot.mark)
        if self.live.num_live or self.live.has_work:
            raise SnapshotMismatch(
                f"{self.live.num_live} requests are in flight here; abort them, or use branch()"
            )
        host = put(snapshot, self.executor, self.tokenizer, chosen, self.scheduler.costs)
        self.live, self.scheduler = host.live, host.live.scheduler
        self._num_requests = host.num_requests
        self._start(since=snapshot.taken_at, num_steps=host.num_steps)

    def branch(
        self, snapshot: Snapshot | None = None, policy: str | Policy | None = None
    ) -> "LLMEngine":
        """Another engine that goes on from a snapshot (now, if None), under another policy if one
        is given.  It shares weights and compiled steps, and must be closed first.

            moment = engine.snapshot()  # one for all: time goes on while a twin runs
            for policy in (Fcfs(), ShortestFirst()):
                with engine.branch(moment, policy) as twin: ...
        """
        snapshot = self.snapshot() if snapshot is None else check_snapshot(snapshot)
        chosen = None if policy is None else policies.resolve(policy)
        self.mark.check(snapshot.mark)
        twin = copy.copy(self)
        twin._recorder = None
        twin.executor = self.executor.twin()
        twin.live = LiveRequests(self.scheduler, self.tokenizer)
        twin.restore(snapshot, chosen)
        return twin

    @classmethod
    def resume(
        cls, snapshot: Snapshot | str | Path, policy: str | Policy | None = None, **options: Any
    ) -> "LLMEngine":
        """Builds an engine like the one of a snapshot (or a folder with one), and goes on there.

        options: what is to be different, such as `model`, if the checkpoint lies elsewhere now.
        """
        if isinstance(snapshot, str | Path):
            snapshot = Snapshot.load(snapshot)
        check_snapshot(snapshot)
        chosen = None if policy is None else policies.resolve(policy)
        sizes = snapshot.mark.sizes | {"kv_cache_memory_bytes": None}
        config = {**snapshot.config, **sizes, "dtype": snapshot.mark.dtype, **options}
        config = {name: value for name, value in config.items() if value is not None}
        engine = cls(config.pop("model"), **config)
        try:
            engine.restore(snapshot, chosen)
        except BaseException:
            engine.close()
            raise
        return engine

    @functools.cached_property
    def mark(self) -> Mark:
        """What another engine must have in common to go on from here."""
        options = asdict(self.sizes) | {"max_logprobs": self.config.max_logprobs}
        sizes = {name: options[name] for name in SIZES}
        return Mark(mark_of_checkpoint(self.folder), str(self.model.dtype), **sizes)

    def _host_state(self) -> HostState:
        return HostState(self.live, self._num_requests, self.loop.num_steps)

    def _start(self, since: float | None = None, num_steps: int = 0) -> None:
        """Begins to serve what is scheduled, on a clock that goes on from `since`."""
        behind = 0.0 if since is None else time.monotonic() - since
        self.clock = lambda: time.monotonic() - behind
        self.records: deque[StepRecord] = deque(maxlen=KEPT_RECORDS)
        self.ended: deque[RequestRecord] = deque(maxlen=KEPT_RECORDS)
        self.loop = ServingLoop(
            self.scheduler,
            self.executor,
            self.clock,
            self.records.append,
            ahead=int(self.config.async_scheduling),
            on_finish=lambda sequence: self.ended.append(RequestRecord.of(sequence)),
            sleep=time.sleep,
            stopwatch=time.perf_counter,
        )
        self.loop.num_steps = num_steps

    def __enter__(self) -> "LLMEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Aborts what is in flight and frees the weights, the cache and the compiled steps."""
        if not self._is_closed:
            self.live.abort_all()
            self.loop.drop_ended()  # a step on its way holds arrays
            self.executor.close()
            self._is_closed = True
