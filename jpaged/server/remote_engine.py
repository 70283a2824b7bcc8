"""An engine in a process of its own, as an `EngineClient`; begun anew when it dies, if one wants.

    stream ─► Add ─► engine process ─► News ─► streams, listeners
                          ✗ dies     every stream raises `EngineDied`; wait; another one begins

Nothing here imports JAX: what a server's process needs of a model is its card and its tokenizer.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Any, Self

from jpaged import policies
from jpaged.beam_search_params import BeamSearchParams
from jpaged.config import EngineConfig
from jpaged.engine.client import STEP_PATIENCE, Described, ModelCard, StepNews
from jpaged.engine.pretended_costs import costs_of
from jpaged.engine.stats import EngineStats
from jpaged.engine.streams import Stream, Streams
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import ConfigError, EngineDied, RequestRejected, UnsupportedModel
from jpaged.scheduling.report import PageReport
from jpaged.scheduling.request import Request
from jpaged.server.child import Child, error_of
from jpaged.server.messages import Abort, Add, Answer, Call, Hello, News, ToServer
from jpaged.simulator.makers import policy_of
from jpaged.weights.folder import find_folder

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before another process is begun
FRESH_SECONDS = 300.0  # who served for so long has all restarts before it again
POLL_SECONDS = 0.02
UNSENDABLE = (OverflowError, UnicodeEncodeError, TypeError)  # too large, no text, an odd number

logger = logging.getLogger("jpaged")


class RemoteEngine(Described):
    """Belongs to the event loop on which it was launched.

    engine = await RemoteEngine.launch("demo", max_num_seqs=64)
    ...
    await engine.close()
    """

    def __init__(
        self,
        config: EngineConfig,
        options: dict[str, Any],
        restarts: int,
        patience: float,
        step_patience: float,
    ):
        self.listeners: list[Callable[[StepNews], None]] = []
        self._config, self._options, self._restarts = config, options, restarts
        self._patience, self._step_patience = patience, step_patience
        self._loop = asyncio.get_running_loop()
        self._streams = Streams(self._ask_abort)
        self._calls: dict[int, asyncio.Future[PageReport | None]] = {}
        self._serials = count()
        self._tokenizer: Tokenizer | None = None
        self._death: str | None = None  # why no engine is there, and none will be
        self._supervisor: asyncio.Task | None = None
        self.card: ModelCard
        self.stats: EngineStats
        self._child: Child

    @classmethod
    async def launch(
        cls,
        model: str,
        *,
        restarts: int = 0,
        patience: float = 5.0,
        step_patience: float = STEP_PATIENCE,
        **options: Any,
    ) -> Self:
        """Begins the process and waits until its engine is ready.

        restarts: how many times in a row another one is begun when it dies.  patience: seconds
        without an answer, and step_patience: seconds in one step, after which it is not healthy.
        options: of `EngineConfig`, but policies and cost models as texts.  Raises what the
        engine raised.
        """
        config = _checked(model, options)
        engine = cls(config, {"model": config.model} | options, restarts, patience, step_patience)
        await engine._begin()
        try:
            engine._tokenizer = await asyncio.to_thread(_load_tokenizer, config, engine.card)
        except BaseException:
            await engine._child.kill()
            raise
        engine._supervisor = asyncio.create_task(engine._supervise())
        return engine

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        return self._child.process.pid

    @property
    def is_healthy(self) -> bool:
        return self._death is None and self._child.is_responsive

    @property
    def is_gone(self) -> bool:
        return self._death is not None

    async def wait_healthy(self) -> None:
        """Until it serves, again or still.  Raises `EngineDied` if it never will."""
        while not self.is_healthy:
            if self._death is not None:
                raise EngineDied(self._death)
            await asyncio.sleep(POLL_SECONDS)

    def stream(
        self,
        request: Request,
        prompt_text: str | None,
        search: BeamSearchParams | None = None,
    ) -> Stream:
        """Queues a request that the door let in; see `EngineClient`."""
        if self._child.ended.done():
            raise EngineDied(self._child.ended.result())
        self._streams.refuse_known(request.id)
        try:
            self._child.send(Add(request, prompt_text, search))
        except UNSENDABLE as error:
            raise RequestRejected(f"the request cannot be sent to the engine: {error}") from error
        return self._streams.open(request, prompt_text)

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Ends requests and frees their pages.  Their readers hear of it as `RequestFailed`."""
        self._streams.abort(request_ids)

    async def page_report(self) -> PageReport:
        """Who holds which part of the cache now.  `print` it for a table."""
        report = await self._call("page_report")
        assert report is not None
        return report

    async def set_policy(self, name: str) -> None:
        """Lets another policy decide from the next step on; nobody in flight is harmed."""
        _check_policy(name)
        await self._call("set_policy", name)
        self.card = replace(self.card, policy=name)
        self._options["policy"] = name  # of those that are begun later, too
        self._options.pop("scheduling_policy", None)

    async def reset_prefix_cache(self) -> None:
        """Forgets all cached prefixes.  Requests in flight keep their pages."""
        await self._call("reset_prefix_cache")

    async def _call(self, name: str, argument: str = "") -> PageReport | None:
        if self._child.ended.done():
            raise EngineDied(self._child.ended.result())
        serial, future = next(self._serials), self._loop.create_future()
        self._calls[serial] = future
        self._child.send(Call(serial, name, argument))
        try:
            return await future
        finally:
            self._calls.pop(serial, None)

    def _ask_abort(self, request_ids: list[str]) -> None:
        if not self._loop.is_closed():  # a stream may be forgotten in any thread, at any time
            self._loop.call_soon_threadsafe(self._child.send, Abort(request_ids))

    def _hear(self, message: ToServer) -> None:
        match message:
            case News():
                self._take(message)
            case Answer(serial, report, kind, reason):
                future = self._calls.get(serial)
                if future is not None and not future.done():
                    if kind:
                        future.set_exception(error_of(kind, reason))
                    else:
                        future.set_result(report)

    def _take(self, news: News) -> None:
        outputs = [
            delta.output(*self._streams.prompt_of(delta.request_id)) for delta in news.deltas
        ]
        heard = StepNews(
            outputs, news.failed, news.stats, news.steps, news.ended, news.refused, news.aborted
        )
        self._streams.deliver(outputs, news.failed, news.refused, news.aborted)
        self._tell(heard)

    def _tell(self, news: StepNews) -> None:
        self.stats = news.stats
        for listener in self.listeners:
            self._loop.call_soon(listener, news)  # its errors are its own

    async def _begin(self) -> None:
        """Another process.  Raises what its engine raised."""
        self._child, hello = await Child.start(
            self._options, self._hear, self._patience, self._step_patience
        )
        self._greet(hello)

    def _greet(self, hello: Hello) -> None:
        self.card = hello.card
        self.stats = hello.stats

    async def _supervise(self) -> None:
        """Lets everybody know when it dies, and begins another one as often as is wanted."""
        num_left, began = self._restarts, time.monotonic()
        while True:
            reason = await asyncio.shield(self._child.ended)
            self._bury(reason)
            await self._child.close()
            if time.monotonic() - began > FRESH_SECONDS:
                num_left = self._restarts
            num_left, reason = await self._restart(num_left, reason)
            began = time.monotonic()
            if self._child.ended.done():
                self._death = reason
                return

    async def _restart(self, num_left: int, reason: str) -> tuple[int, str]:
        """Tries until one serves or no try is left.  Returns how many are, and what was wrong."""
        pause = FIRST_PAUSE
        while num_left:
            num_left -= 1
            logger.error("%s; another one begins in %.1f s", reason, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                await self._begin()
                return num_left, reason
            except (EngineDied, ConfigError, UnsupportedModel, OSError) as error:
                reason = str(error)
        logger.error("%s; no other one is begun", reason)
        return 0, reason

    def _bury(self, reason: str) -> None:
        """Fails what was in flight; nothing runs any more."""
        self._streams.fail_all(lambda: EngineDied(reason))
        for future in self._calls.values():
            if not future.done():
                future.set_exception(EngineDied(reason))
        idle = replace(self.stats, num_running=0, num_waiting=0, kv_cache_usage=0.0)
        self._tell(StepNews([], {}, idle))

    async def close(self) -> None:
        """Fails what is in flight, and ends the process."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._death = self._death or "the engine was closed"
        self._bury(self._death)
        await self._child.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _checked(model: str, options: dict[str, Any]) -> EngineConfig:
    """Raises `ConfigError` before a process is begun, for what can be seen here."""
    known = dict(options)
    for name in ("cost_model", "pretend"):
        if isinstance(known.get(name), str):
            known[name] = costs_of(known[name])
        elif known.get(name) is not None:
            raise ConfigError(f"an engine process takes {name} as a text, not {known[name]!r}")
    config = EngineConfig.from_options(model, **known)
    if isinstance(config.policy, str) and ":" in config.policy:
        policy_of(config.policy)  # of who started the server; `set_policy` takes names alone
    else:
        _check_policy(config.policy)
    return config


def _check_policy(policy: object) -> None:
    if not isinstance(policy, str):
        raise ConfigError(f"an engine process takes a policy by name, not {policy!r}")
    policies.resolve(policy)


def _load_tokenizer(config: EngineConfig, card: ModelCard) -> Tokenizer | None:
    """The same as the engine's."""
    if config.skip_tokenizer_init:
        return None
    if config.tokenizer:
        return Tokenizer.load(find_folder(config.tokenizer, with_weights=False))
    return Tokenizer.load(card.folder)
