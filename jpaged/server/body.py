"""Bodies: read whole, within a size and a time, before the application is asked.

Behind the keys: a stranger's body is not kept.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jpaged.server import limits
from jpaged.server.errors import ApiError, ClientGone
from jpaged.server.refusing import refuse


class Body:
    def __init__(self, app: ASGIApp, max_body_bytes: int = limits.MAX_BODY_BYTES):
        self.app, self.max_body_bytes = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ApiError as error:
            await refuse(error, receive, send)
        except ClientGone:
            return
        else:
            await self.app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.  Raises `ApiError` as soon as it is too large, or takes too long."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        length = _content_length(headers)
        if length is not None and length > self.max_body_bytes:
            raise self._too_large()
        if length is None and not any(name == b"transfer-encoding" for name, _ in headers):
            return b""
        try:
            async with asyncio.timeout(limits.BODY_SECONDS):
                return await self._read_all(receive)
        except TimeoutError as error:
            raise ApiError(
                408, f"The body did not arrive within {limits.BODY_SECONDS:g} seconds."
            ) from error

    async def _read_all(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body is over the limit of {self.max_body_bytes} bytes.")


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    found = {value for name, value in headers if name == b"content-length"}
    if not found:
        return None
    [value, *others] = found
    if others or not value.isdigit():
        raise ApiError(400, "Content-Length must be one number.")
    return int(value[:20])


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, in one piece, and then what comes behind it."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def again() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        first, message = message, None
        return first

    return again
