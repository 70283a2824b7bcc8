"""The one path of every request, whichever protocol brought it.

    Ask ─► model ─► chat template ─► tokens ─► door ─► admission ─► Started ─► deltas
           404      400              400       400     503, 429

All that can be refused is refused by `start`, before an answer begins and before the engine hears
of it.  A `Started` that is left aborts what still runs: no request outlives its reader.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from jpaged.engine.client import EngineDied, ModelCard, RequestFailed
from jpaged.engine.outputs import RequestOutput
from jpaged.errors import RequestRejected
from jpaged.scheduling.request import Request
from jpaged.server.admission import Ticket
from jpaged.server.ask import Ask
from jpaged.server.chat_template import Templates
from jpaged.server.encoding import encode_prompt
from jpaged.server.errors import (
    ApiError,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    ShuttingDown,
)
from jpaged.server.models import Models, Served
from jpaged.server.progress import Progress

log = logging.getLogger(__name__)
POLL_SECONDS = 0.02


class Service:
    """begun: hear of each request when its first token came.  listeners: hear of it when it is
    over, and how it ended ("finished", "disconnected", "deadline", "failed", "aborted"); `outcomes`
    counts them."""

    def __init__(self, models: Models, templates: Templates, request_timeout: float | None = None):
        self.models, self.templates, self.request_timeout = models, templates, request_timeout
        self.is_draining = False
        self.live: set[Started] = set()
        self.outcomes: Counter[str] = Counter()
        self.begun: list[Callable[[Started], None]] = []
        self.listeners: list[Callable[[Started, str], None]] = []
        self._num_started = 0
        self._ids: set[str] = set()

    async def start(self, asks: Sequence[Ask]) -> list["Started"]:
        """Lets in all of them or none.  They are of one model.

        Raises `RequestRejected` (400), `UnknownModel` (404), `Overloaded` (503, or 429 for one
        client) and `Draining` (503), before anything is queued.
        """
        self._refuse_when_draining()
        served, client = self.models.find(asks[0].model), asks[0].client
        if not served.engine.is_healthy:
            raise EngineFailed("The engine of this model is not running.", status=503)
        served.admission.check([0] * len(asks), client)  # spares the work for what is refused
        with ExitStack() as until_queued:
            until_queued.enter_context(served.hold())
            requests = [await self._check(served, ask) for ask in asks]
            self._refuse_when_draining()
            sizes = [len(request.prompt) for request, _ in requests]
            tickets = served.admission.enter(sizes, client, time.monotonic())
        return [
            Started(self, served, ask, request, text, ticket)
            for ask, (request, text), ticket in zip(asks, requests, tickets, strict=True)
        ]

    def _refuse_when_draining(self) -> None:
        if self.is_draining:
            raise Draining

    async def _check(self, served: Served, ask: Ask) -> tuple[Request, str | None]:
        """The request as it would be queued, and its prompt's text if it came as text."""
        arrival = time.monotonic()
        tokens, text = await self.encode(served, ask)
        prompt: dict[str, Any] = {"prompt_token_ids": tokens}
        if text is not None:
            prompt["prompt"] = text
        if ask.cache_salt:
            prompt["cache_salt"] = ask.cache_salt
        self._num_started += 1
        admit: Any = served.engine.door.admit
        if ask.search is not None:
            seats = served.engine.card.max_num_seqs
            admit = partial(served.engine.door.admit_search, max_num_seqs=seats)
        return admit(
            self._unique(ask.request_id),
            prompt,
            ask.search or ask.params,
            arrival=arrival,
            priority=ask.priority,
            serial=self._num_started,
            terms=ask.terms,
        )

    async def encode(self, served: Served, ask: Ask) -> tuple[list[int], str | None]:
        """The prompt's tokens, and its text if it came as text or as a chat."""
        if not served.has_text and (ask.messages is not None or isinstance(ask.prompt, str)):
            raise RequestRejected(
                f"{served.name} is served without a tokenizer (--skip-tokenizer-init); send the "
                "prompt to /v1/completions as token ids"
            )
        if ask.messages is None:
            assert ask.prompt is not None
            return await encode_prompt(served, ask.prompt, ask)
        text = await self.render(served, ask)
        # the template writes the special tokens itself
        return await encode_prompt(served, text, ask)

    async def render(self, served: Served, ask: Ask) -> str:
        if served.chat_template is None:
            raise RequestRejected(
                f"{served.name} has no chat template; send a prompt to /v1/completions, or start "
                "the server with --chat-template"
            )
        taken = sorted(served.template_words.keys() & ask.template_options.keys())
        if taken:
            raise RequestRejected(f"{taken[0]} is the tokenizer's, not the client's to say")
        options = {**served.template_words, **ask.template_options}
        return await self.templates.render(served.chat_template, ask.messages or [], options)

    def _unique(self, request_id: str) -> str:
        """A client's id, but for one that is still in flight: it may be asking again."""
        if request_id not in self._ids:
            return request_id
        return f"{request_id}-{self._num_started}"

    def enter(self, started: "Started") -> None:
        self.live.add(started)
        self._ids.add(started.request.id)

    def leave(self, started: "Started", outcome: str) -> None:
        self.live.discard(started)
        self._ids.discard(started.request.id)
        self.outcomes[outcome] += 1
        for listener in self.listeners:
            listener(started, outcome)

    def drain(self) -> None:
        """Refuses new work from now on."""
        self.is_draining = True

    async def idle(self, seconds: float) -> bool:
        """Waits until nothing is in flight, but not longer than that.  Whether it came to it."""
        until = time.monotonic() + seconds
        while self.live or any(not served.is_idle for served in self.models):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def abort_all(self) -> int:
        """Ends all that is in flight with an error.  How many that were."""
        self.drain()
        for started in list(self.live):
            started.fail(ShuttingDown())
        return len(self.live)


class Started:
    """A request that was let in.  Leaving it, as a context manager, aborts what still runs."""

    def __init__(
        self,
        service: Service,
        served: Served,
        ask: Ask,
        request: Request,
        prompt_text: str | None,
        ticket: Ticket,
    ):
        self.service, self.served, self.ask = service, served, ask
        self.request, self.prompt_text, self._ticket = request, prompt_text, ticket
        self.card: ModelCard = served.engine.card
        self.progress = Progress()
        self._seconds = service.request_timeout if ask.deadline is None else ask.deadline
        self._failure: ApiError | None = None
        self._stream: Any = None
        self._timer: asyncio.TimerHandle | None = None
        if self._seconds is not None:
            left = request.arrival + self._seconds - time.monotonic()
            failure = DeadlineExceeded(self._seconds)
            self._timer = asyncio.get_running_loop().call_later(left, self.fail, failure)
        self._outcome = "disconnected"
        self._is_closed = False
        service.enter(self)

    @property
    def prompt_token_ids(self) -> tuple[int, ...]:
        return self.request.prompt

    async def deltas(self) -> AsyncIterator[RequestOutput]:
        """What is new, until it is finished.  Raises `ApiError`."""
        if self._failure is not None:
            raise self._failure
        try:
            self._stream = self.served.engine.stream(
                self.request, self.prompt_text, self.ask.search
            )
            async for output in self._stream:
                self._note(output)
                if self.progress.is_given_up:
                    raise EngineFailed("The scheduler gave this request up.", status=503)
                if output.finished:
                    self._outcome = "finished"
                yield output
        except (EngineDied, RequestFailed) as error:
            raise self._failure or self._failed(error) from error
        if self._outcome != "finished":
            self._outcome = "aborted"
            raise EngineFailed("The request was aborted.", status=503)

    def _failed(self, error: EngineDied | RequestFailed) -> EngineFailed:
        """Why is for the log only."""
        self._outcome = "failed"
        log.warning("request %s failed: %s", self.request.id, error)
        if isinstance(error, EngineDied):
            return EngineFailed("The engine stopped.", status=503)
        return EngineFailed("The engine failed on this request.")

    def _note(self, output: RequestOutput) -> None:
        now = time.monotonic()
        self.served.admission.begin(self._ticket, now)
        if self.progress.add(output, now):
            for listener in self.service.begun:
                listener(self)

    def fail(self, error: ApiError) -> None:
        """Aborts it; whoever waits for its next output gets this error instead."""
        if self._is_closed or self._failure is not None:
            return
        self._failure = error
        self._outcome = "deadline" if isinstance(error, DeadlineExceeded) else "aborted"
        if self._stream is not None:
            self._abort = asyncio.ensure_future(self.served.engine.abort([self.request.id]))

    async def close(self) -> None:
        """Aborts it if it still runs, and gives its place to others.  Once is enough."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.served.admission.leave(self._ticket)
        self.service.leave(self, self._outcome)
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> "Started":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
