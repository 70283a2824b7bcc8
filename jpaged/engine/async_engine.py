"""The asynchronous engine: requests come and go while others run; each has a stream of its own."""

import asyncio
import atexit
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Self

from jpaged import policies
from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.client import STEP_PATIENCE, Described, StepNews
from jpaged.engine.defaults import sampling_defaults
from jpaged.engine.door import CheckedRequest, Prompt
from jpaged.engine.llm import Params, final, is_one, one_each
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.model_card import model_card, name_of
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.stepping import Stepper
from jpaged.engine.streams import Stream, Streams
from jpaged.errors import EngineDied
from jpaged.runner.memory import MemoryReport
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.report import PageReport
from jpaged.scheduling.request import Request
from jpaged.scheduling.terms import NO_TERMS, Terms


class AsyncLLMEngine(Described):
    """Continuous batching for coroutines; an `EngineClient` in this process.

        async with AsyncLLMEngine("demo") as engine:
            async for output in engine.generate("Once upon a time", SamplingParams(max_tokens=40)):
                print(output.outputs[0].text)

    Options are those of `EngineConfig`.  The engine steps in a thread of its own, and serves any
    event loop that asks, several too.  A request whose reader goes away is aborted.

    step_patience: seconds that a step may take, but for what it compiles, until `is_healthy` is
    False.
    """

    step_patience = STEP_PATIENCE

    def __init__(self, model: str, **options: Any):
        self._serve(LLMEngine(model, **options))

    @classmethod
    def of(cls, engine: LLMEngine) -> Self:
        """Serves with an engine that is there already, one that was resumed, say.  It belongs to
        this one from now on."""
        served = cls.__new__(cls)
        served._serve(engine)
        return served

    def _serve(self, engine: LLMEngine) -> None:
        self.card, self.stats = model_card(engine), engine.stats()
        self.listeners: list[Callable[[StepNews], None]] = []
        self._tokenizer, self._folder = engine.tokenizer, engine.folder
        self._num_requests = 0
        self._homes: dict[asyncio.AbstractEventLoop, Streams] = {}
        self._stepper = Stepper(engine, self._hear)
        self._stepper.ended.add_done_callback(lambda _: self._hear_end())
        # a daemon, because Python waits for other threads before it closes what is left open
        self._thread = threading.Thread(target=self._stepper.run, name="jpaged-engine", daemon=True)
        self._thread.start()
        atexit.register(self._stop)
        with suppress(RuntimeError):  # no loop is running yet
            self._streams()

    @property
    def is_healthy(self) -> bool:
        """False once it died, and while it is stuck in a step."""
        return not (self.is_gone or self._stepper.busy_seconds > self.step_patience)

    @property
    def is_gone(self) -> bool:
        return self._stepper.ended.done()

    def get_default_sampling_params(self) -> SamplingParams:
        """The model's own, from its generation_config.json."""
        return SamplingParams(**sampling_defaults(self._folder))

    async def generate(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        *,
        priority: int = 0,
        terms: Terms = NO_TERMS,
    ) -> AsyncIterator[RequestOutput]:
        """Yields what a request has said so far, after each step; deltas if its parameters say so.

        sampling_params: the model's own if None.  Leaving the loop aborts the request.  Raises
        `RequestRejected`, `RequestFailed`, and `EngineDied`.
        """
        params = sampling_params or self.get_default_sampling_params()
        checked = self._check(prompt, params, request_id, priority, terms)
        async with aclosing(self.stream(*checked)) as outputs:
            async for output in outputs:
                yield output

    async def agenerate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: Params | None = None,
        *,
        priority: int | Sequence[int] | None = None,
        terms: Terms | Sequence[Terms] = NO_TERMS,
    ) -> list[RequestOutput]:
        """Generates for all prompts together; outputs are in the prompts' order.

        As `LLM.generate`, beside whatever else runs.  Raises `RequestRejected` before anything is
        run if any prompt or parameter is bad; cancelling it aborts its requests.
        """
        each_prompt: list[Any] = [prompts] if is_one(prompts) else list(prompts)
        count, defaults = len(each_prompt), self.get_default_sampling_params()
        checked = [
            self._check(prompt, final(params or defaults), None, level or 0, known)
            for prompt, params, level, known in zip(
                each_prompt,
                one_each("sampling_params", sampling_params, count),
                one_each("priority", priority, count),
                one_each("terms", terms, count),
                strict=True,
            )
        ]
        streams = [self.stream(*each) for each in checked]
        try:
            return [await anext(stream) for stream in streams]
        finally:
            for stream in streams:
                await stream.aclose()

    def _check(
        self,
        prompt: Prompt,
        params: SamplingParams,
        request_id: str | None,
        priority: int,
        terms: Terms,
    ) -> CheckedRequest:
        serial = self._num_requests
        self._num_requests += 1
        return self.door.admit(
            f"async-{serial}" if request_id is None else request_id,
            prompt,
            params,
            arrival=time.monotonic(),
            priority=priority,
            serial=serial,
            terms=terms,
        )

    def stream(
        self,
        request: Request,
        prompt_text: str | None,
        search: BeamSearchParams | None = None,
    ) -> Stream:
        """Queues a request that the door let in; see `EngineClient`."""
        if self._stepper.ended.done():
            raise self._death()
        own = self._streams()
        for streams in self._homes.values():
            streams.refuse_known(request.id)
        stream = own.open(request, prompt_text)
        self._stepper.add(request, prompt_text, search)
        return stream

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Ends requests and frees their pages.  Their readers hear of it as `RequestFailed`."""
        named, here = list(request_ids), asyncio.get_running_loop()
        for loop, streams in list(self._homes.items()):
            if loop is here:
                streams.abort(named)
            else:
                self._on(loop, streams.abort, named)

    async def page_report(self) -> PageReport:
        """Who holds which part of the cache now.  `print` it for a table."""
        return await self._call(LLMEngine.page_report)

    async def memory_report(self) -> MemoryReport:
        """What weights, cache and steps take, and what is free.  `print` it for a table."""
        return await self._call(LLMEngine.memory_report)

    async def set_policy(self, name: str | Policy) -> None:
        """Lets another policy decide from the next step on; nobody in flight is harmed."""
        policy = policies.resolve(name)
        await self._call(lambda engine: engine.set_policy(policy))
        self.card = replace(self.card, policy=name_of(name))

    async def reset_prefix_cache(self) -> bool:
        """Forgets all cached prefixes.  Requests in flight keep their pages."""
        return await self._call(LLMEngine.reset_prefix_cache)

    async def _call[Result](self, do: Callable[[LLMEngine], Result]) -> Result:
        return await asyncio.wrap_future(self._stepper.call(do))

    def _streams(self) -> Streams:
        """Those of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._homes:
            self._homes[loop] = Streams(self._stepper.abort)
        return self._homes[loop]

    def _hear(self, news: StepNews) -> None:
        """In the engine's thread."""
        self.stats = news.stats
        is_first = True  # of the loops: there listeners hear of it
        for loop, streams in list(self._homes.items()):
            if self._on(loop, self._deliver, streams, news, is_first):
                is_first = False

    def _on(self, loop: asyncio.AbstractEventLoop, do: Callable[..., None], *arguments) -> bool:
        """Does something on a loop.  False if it was closed: nobody reads there any more."""
        try:
            loop.call_soon_threadsafe(do, *arguments)
        except RuntimeError:
            if not loop.is_closed():
                raise
            self._homes.pop(loop, None)
            return False
        return True

    def _deliver(self, streams: Streams, news: StepNews, is_first: bool) -> None:
        """On a loop."""
        streams.deliver(news.outputs, news.failed, news.refused, news.aborted)
        for listener in self.listeners if is_first else ():
            asyncio.get_running_loop().call_soon(listener, news)  # its errors are its own

    def _hear_end(self) -> None:
        for loop, streams in list(self._homes.items()):
            self._on(loop, streams.fail_all, self._death)

    def _death(self) -> EngineDied:
        return EngineDied(self._stepper.ended.result() or "the engine was closed")

    async def close(self) -> None:
        """Ends what is in flight, frees the weights and the cache, and ends the thread."""
        self._stepper.close()
        await asyncio.shield(asyncio.wrap_future(self._stepper.ended))
        self._stop()

    def _stop(self) -> None:
        self._stepper.close()
        self._thread.join()
        atexit.unregister(self._stop)

    async def __aenter__(self) -> Self:
        self._streams()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
