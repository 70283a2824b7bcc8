"""One HTTP request and its answer, as metrics, the log and traces hear of it when it is over.

    edge ◄─ Watch ─► Exchange ─► listeners
    service: requests that ended ─┘

The middleware stands before everything else, so that what is refused is heard of, too.
"""

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jpaged.server.service import Started

MOST_CHARS = 100  # of a path
UNKNOWN = "none"  # what is counted for paths and methods of which there are no end
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(eq=False)
class Exchange:
    """over: its requests to an engine, as they ended, and how.  Times are monotonic."""

    scope: Scope
    began: float
    ended: float = 0.0
    status: int = 500  # until one was sent
    num_received: int = 0  # bytes, if a header said so
    num_sent: int = 0
    over: list[tuple[Started, str]] = field(default_factory=list)
    refusal: HTTPException | None = None

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def route(self) -> str:
        """As it is declared, /v1/models/{model}; UNKNOWN if it was refused before, or found
        none."""
        return getattr(self.scope.get("route"), "path", UNKNOWN)

    @property
    def path(self) -> str:
        """As it was asked, without the query; harmless to write down."""
        return self.scope.get("raw_path", b"").decode("latin-1")[:MOST_CHARS]

    @property
    def method(self) -> str:
        method = self.scope["method"]
        return method if method in METHODS else UNKNOWN

    @property
    def request_id(self) -> str:
        return self.scope.get("state", {}).get("request_id", "")

    def header(self, name: bytes) -> str | None:
        found = [value for key, value in self.scope["headers"] if key == name]
        return found[0].decode("latin-1") if found else None


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def note(started: Started, outcome: str) -> None:
    """Enters a request that is over into the exchange that it was for; a service's listener."""
    exchange = _current.get()
    if exchange is not None:
        exchange.over.append((started, outcome))


def note_refusal(error: HTTPException) -> None:
    """Enters why it is refused into the exchange under way."""
    exchange = _current.get()
    if exchange is not None:
        exchange.refusal = error


class Watch:
    """The middleware."""

    def __init__(self, app: ASGIApp, listeners: Sequence[Callable[[Exchange], None]]):
        self.app, self.listeners = app, listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, time.monotonic(), num_received=_length(scope["headers"]))
        token = _current.set(exchange)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.num_sent = _length(message.get("headers", ()))
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            _current.reset(token)
            exchange.ended = time.monotonic()
            for listener in self.listeners:
                listener(exchange)


def _length(headers: Sequence[tuple[bytes, bytes]]) -> int:
    """What Content-Length says; 0 if it says nothing that is a number."""
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
