"""HTTP/1.1 as cheap as Python has it: a client of a thousand streams must not be the bottleneck."""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Self, cast
from urllib.parse import urlsplit

import httptools

from jpaged.errors import ConfigError

FRESH_SECONDS = 2.0  # a server may close a connection that was idle for longer at any moment
PORTS = {"http": 80, "https": 443}

OnBody = Callable[[bytes, float], None]


class Broken(ConnectionError):
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_lost = asyncio.Event()
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._done: asyncio.Future[int] | None = None
        self._on_body: OnBody = lambda data, now: None
        self._now = 0.0

    async def ask(self, request: bytes, on_body: OnBody) -> int:
        """The status, when all of the answer has come.  on_body hears each piece, and when it came.

        Raises `Broken`.
        """
        assert self._transport is not None
        self._parser, self._on_body = httptools.HttpResponseParser(self), on_body
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._done
        finally:
            if not self._done.done() or self._done.cancelled():
                self.close()  # the rest of the answer belongs to nobody
            self._done = None

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # the reader of the body raises through the parser
            self._fail(f"an answer that is not understood: {error.__context__ or error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.is_lost.set()
        self._fail(str(exc or "the server closed the connection"))

    def on_body(self, data: bytes) -> None:
        self._on_body(data, self._now)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._done is not None and not self._done.done():
            self._done.set_result(self._parser.get_status_code())
        if not self._parser.should_keep_alive():
            self.is_open = False
        self.idle_since = self._now

    def _fail(self, why: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(Broken(why))


class Pool:
    """Connections to one server, as many as are in use at a time."""

    def __init__(self, url: str, headers: dict[str, str]):
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ConfigError(f"{url} is no address of a server; write http://HOST:PORT")
        self.url = url
        self._host, self._port = parts.hostname, parts.port or PORTS[parts.scheme]
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/")
        fields = {"Host": parts.netloc, "Content-Type": "application/json", **headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._idle: list[Connection] = []
        self._all: list[Connection] = []

    async def ask(self, method: str, path: str, body: bytes, on_body: OnBody) -> int:
        """The status.  Raises `OSError`, of which `Broken` is one."""
        head = f"{method} {self._path}{path} HTTP/1.1\r\n{self._fields}"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        connection = await self._connection()
        status = await connection.ask(request, on_body)
        if connection.is_open:
            self._idle.append(connection)
        return status

    async def whole(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The status, and all of the answer at once."""
        pieces: list[bytes] = []
        status = await self.ask(method, path, body, lambda data, now: pieces.append(data))
        return status, b"".join(pieces)

    async def _connection(self) -> Connection:
        """The one that was used last, if it is fresh."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and time.perf_counter() - connection.idle_since < FRESH_SECONDS:
                return connection
            connection.close()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            Connection, self._host, self._port, ssl=self._ssl
        )
        self._all.append(connection)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Waits until all are gone: a loop that ends before would leave their sockets open."""
        for connection in self._all:
            connection.close()
            await connection.is_lost.wait()
