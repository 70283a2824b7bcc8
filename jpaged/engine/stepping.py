"""Steps an engine in a thread of its own; all that is asked of it is done between two steps.

any thread       add, abort, call ─► letters ─┐
engine's thread         read them ─► step ─► StepNews ─► on_news
                            ▲──────────────────┘
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from functools import partial
from queue import Empty, SimpleQueue

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.client import StepNews
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.recovery import recover
from jpaged.errors import EngineDied, RequestRejected
from jpaged.scheduling.request import Request

logger = logging.getLogger("jpaged")


class Stepper:
    """`run` is for the thread, the other methods for everybody else.

    on_news: called in the thread after each step that did something.  `ended` is done when the
    thread has given the engine back; its result is why it died, None if it was closed.
    """

    def __init__(self, engine: LLMEngine, on_news: Callable[[StepNews], None]):
        self.engine, self._on_news = engine, on_news
        engine.loop.sleep = lambda seconds: None  # here one waits for letters, too
        self.ended: Future[str | None] = Future()
        self._busy_since: float | None = None  # when the step under way began
        self._letters: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._calls: set[Future] = set()  # not answered yet
        self._is_closing = False
        # of the step to come
        self._failed: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._aborted: list[str] = []

    @property
    def busy_seconds(self) -> float:
        """For how long the step under way has been running, but for what it compiles."""
        since = self._busy_since
        if since is None:
            return 0.0
        return max(0.0, time.monotonic() - max(since, self.engine.executor.latest_compilation))

    def add(
        self,
        request: Request,
        prompt_text: str | None,
        search: BeamSearchParams | None = None,
    ) -> None:
        self._letters.put(partial(self._add, request, prompt_text, search))

    def abort(self, request_ids: list[str]) -> None:
        self._letters.put(partial(self._abort, request_ids))

    def call[Result](self, do: Callable[[LLMEngine], Result]) -> Future[Result]:
        """Does something with the engine between two steps."""
        future: Future[Result] = Future()
        self._calls.add(future)
        self._letters.put(partial(self._answer, future, do))
        if self.ended.done():  # nobody reads letters any more
            self._fail(future)
        return future

    def close(self) -> None:
        """Asks the thread to end what is in flight, give the engine back, and end itself."""
        self._letters.put(self._close)

    def run(self) -> None:
        """Steps until `close`, or until the engine dies."""
        reason = None
        try:
            while not self._is_closing:
                self._read_letters()
                self._step()
        except EngineDied as error:
            reason = str(error)
        except BaseException as error:  # whatever it is, those who wait must hear of it
            logger.exception("the engine died")
            reason = f"{type(error).__name__}: {error}"
        try:
            self.engine.close()
        finally:
            self.ended.set_result(reason)
        for future in list(self._calls):
            self._fail(future)

    def _read_letters(self) -> None:
        """Does what was asked.  Waits for something while there is nothing else to do."""
        seconds = self._idle_seconds()
        try:
            letter = self._letters.get(block=seconds != 0, timeout=seconds)
            while True:
                letter()
                letter = self._letters.get_nowait()
        except Empty:
            pass

    def _idle_seconds(self) -> float | None:
        """For how long a step would do nothing; None until somebody asks for something."""
        if not self.engine.has_unfinished_requests():
            # of whom the outputs ended (a stop string, a beam), the next step tells
            return 0 if self.engine.scheduler.ended else None
        wake_at = self.engine.scheduler.wake_at
        if wake_at is None or self.engine.loop.is_underway:
            return 0
        return max(0, wake_at - self.engine.clock())

    def _step(self) -> None:
        self._busy_since = time.monotonic()
        try:
            outputs = self.engine.step()
        except Exception as error:  # a step is everybody's: its error must not end them all
            logger.exception("a step failed")
            outputs, failed = [], recover(self.engine, error)
            self._failed |= failed
        self._busy_since = None
        self._tell(outputs)

    def _tell(self, outputs: list[RequestOutput]) -> None:
        engine = self.engine
        news = StepNews(
            outputs=outputs,
            failed=self._failed,
            stats=engine.stats(),
            steps=list(engine.records),
            ended=list(engine.ended),
            refused=self._refused,
            aborted=self._aborted,
        )
        engine.records.clear()
        engine.ended.clear()
        self._failed, self._refused, self._aborted = {}, {}, []
        if news:
            self._on_news(news)

    def _add(
        self, request: Request, prompt_text: str | None, search: BeamSearchParams | None
    ) -> None:
        try:
            if request.id in self.engine.live:
                raise RequestRejected(f"request id {request.id!r} is in flight; choose another")
            if search is None:
                self.engine.enqueue(request, prompt_text)
            else:
                self.engine.enqueue_beam_search(request, (prompt_text, search))
        except RequestRejected as error:
            self._refused[request.id] = str(error)
        except Exception as error:  # this request alone fails
            logger.exception("a request could not be queued")
            self._failed[request.id] = f"{type(error).__name__}: {error}"

    def _abort(self, request_ids: list[str]) -> None:
        self.engine.abort_request(request_ids)
        self._aborted += request_ids

    def _answer(self, future: Future, do: Callable[[LLMEngine], object]) -> None:
        self._calls.discard(future)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(do(self.engine))
        except Exception as error:  # it is the caller's
            future.set_exception(error)

    def _close(self) -> None:
        self._is_closing = True

    def _fail(self, future: Future) -> None:
        self._calls.discard(future)
        try:
            future.set_exception(EngineDied(self.ended.result() or "the engine was closed"))
        except InvalidStateError:  # answered meanwhile, or cancelled
            pass
