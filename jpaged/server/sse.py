"""Server-sent events, and answers that a client may walk away from.

    deltas ──► chunks (bytes) ──► one write each ──► socket

The headers wait for the first chunk: what fails before it is an answer with a status, not a stream.
What fails behind it is an event with the error, and the stream ends without its success marker.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from jpaged.server.errors import ClientGone, error_json

RAW_SEND = "jpaged.send"  # of a scope: what the server gave us, for what nobody needs to see
DONE = b"data: [DONE]\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events
]
encode = msgspec.json.Encoder().encode


def event(value: object) -> bytes:
    """One event with a JSON value."""
    return b"data: " + encode(value) + b"\n\n"


def error_event(error: HTTPException) -> bytes:
    return b"data: " + error_json(error) + b"\n\n"


def outermost(app: ASGIApp) -> ASGIApp:
    """The app, with the server's own `send` kept for streams."""

    async def keep_send(scope: Scope, receive: Receive, send: Send) -> None:
        scope[RAW_SEND] = send
        await app(scope, receive, send)

    return keep_send


class Closable(Protocol):
    async def close(self) -> None: ...


class Json(Response):
    """An answer in JSON, encoded by msgspec."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return encode(content)


class Stream(Response):
    """Writes chunks as they come, and closes what they are made from however that ends.

    on_error: how the protocol writes an error into a stream that has begun.
    """

    def __init__(
        self,
        started: Sequence[Closable],
        chunks: AsyncIterator[bytes],
        on_error: Callable[[HTTPException], bytes] = error_event,
        headers: list[tuple[bytes, bytes]] = HEADERS,
    ):
        super().__init__()
        self.started, self.chunks = started, chunks
        self.on_error, self.raw_headers = on_error, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # every layer between here and the socket would only pass the chunks on
            await unless_gone(receive, self._write(send, scope.get(RAW_SEND, send)))
        except ClientGone:
            return
        finally:
            for each in self.started:
                await each.close()

    async def _write(self, send: Send, send_raw: Send) -> None:
        is_begun = False
        try:
            async for chunk in self.chunks:
                if not is_begun:
                    is_begun = True
                    await send(
                        {
                            "type": "http.response.start",
                            "status": 200,
                            "headers": self.raw_headers,
                        }
                    )
                await send_raw({"type": "http.response.body", "body": chunk, "more_body": True})
        except HTTPException as error:
            if not is_begun:
                raise
            body = self.on_error(error)
            await send_raw({"type": "http.response.body", "body": body, "more_body": True})
        await send_raw({"type": "http.response.body", "body": b""})


async def unless_gone[T](receive: Receive, work: Awaitable[T]) -> T:
    """What the work comes to.  Raises `ClientGone`, when it was cancelled, if the client leaves."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for each in (task, watcher):
            each.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
