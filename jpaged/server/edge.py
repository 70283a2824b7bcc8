"""The edge: what is wrong with a request before anybody asks what it wants.

    headers ──► path, sizes, encoding, request id ──► the whole body, within size and time ──► app

Everything behind it sees a body that fits in memory, a path that means one thing, and an id that is
harmless to write down.  Pure ASGI: a `BaseHTTPMiddleware` would cost every chunk of every stream.
"""

import asyncio
import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jpaged.server import limits
from jpaged.server.errors import ApiError, ClientGone, error_response
from jpaged.server.sse import RAW_SEND

# an encoded slash means one path to a proxy and another to a router; only names of models have them
TRICKS = re.compile(rb"//|/\.\.?(/|$)|%2f|%5c|%2e|%00|\\", re.IGNORECASE)
NAMED = re.compile(rb"/v[12]/models/[^/]+")


class Edge:
    def __init__(self, app: ASGIApp, max_body_bytes: int = limits.MAX_BODY_BYTES):
        self.app, self.max_body_bytes = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse_socket(scope, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = _wanted_id(headers)
        is_valid = request_id is None or limits.is_request_id(request_id)
        name = request_id if request_id and is_valid else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = name
        scope[RAW_SEND] = send
        answer = _tagged(send, name.encode())
        try:
            if not is_valid:
                raise ApiError(400, f"X-Request-Id must match {limits.REQUEST_ID_PATTERN}.")
            _check_path(scope)
            _check_headers(headers)
            body = await self._read(scope, headers, receive)
        except ApiError as error:
            await _refuse(error, scope, receive, answer)
        except ClientGone:
            return
        else:
            await self.app(scope, _replay(body, receive), answer)

    async def _read(self, scope: Scope, headers: list, receive: Receive) -> bytes:
        """The whole body.  Raises `ApiError` as soon as it is too large, or takes too long."""
        length = _content_length(headers)
        if length is not None and length > self.max_body_bytes:
            raise self._too_large()
        if length is None and not any(name == b"transfer-encoding" for name, _ in headers):
            return b""
        try:
            async with asyncio.timeout(limits.BODY_SECONDS):
                body = await self._read_all(receive)
        except TimeoutError as error:
            raise ApiError(
                408, f"The body did not arrive within {limits.BODY_SECONDS:g} seconds."
            ) from error
        if body and scope["method"] in ("POST", "PUT", "PATCH"):
            _check_content_type(headers)
        return body

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


async def _refuse_socket(scope: Scope, send: Send) -> None:
    """There is no WebSocket here, and no key was asked for yet."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})


def _wanted_id(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Of several the whole lot, which is then no id."""
    found = [value.decode("latin-1") for name, value in headers if name == b"x-request-id"]
    return ",".join(found) if found else None


def _check_path(scope: Scope) -> None:
    raw = scope.get("raw_path", b"")
    if len(raw) + len(scope["query_string"]) > limits.MAX_URL_BYTES:
        raise ApiError(414, f"The URL is over the limit of {limits.MAX_URL_BYTES} bytes.")
    if TRICKS.search(raw) and (b"//" in raw or b"\\" in raw or not NAMED.fullmatch(raw)):
        raise ApiError(404, "Not Found")


def _check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > limits.MAX_HEADERS or size > limits.MAX_HEADER_BYTES:
        raise ApiError(
            431,
            f"There are {len(headers)} headers of {size} bytes; at most {limits.MAX_HEADERS} and "
            f"{limits.MAX_HEADER_BYTES} are read.",
        )
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise ApiError(415, "Content-Encoding is not supported; send the body as it is.")


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    found = {value for name, value in headers if name == b"content-length"}
    if not found:
        return None
    [value, *others] = found
    if others or not value.isdigit():
        raise ApiError(400, "Content-Length must be one number.")
    return int(value[:20])


def _check_content_type(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuses what a page of another site could send unasked, and what is not UTF-8."""
    found = [value.decode("latin-1") for name, value in headers if name == b"content-type"]
    kind, _, rest = (found[0] if len(found) == 1 else "").lower().partition(";")
    charset = rest.replace(" ", "").replace('"', "")
    if kind.strip() != "application/json" or charset not in ("", "charset=utf-8", "charset=utf8"):
        raise ApiError(415, "Content-Type must be application/json, in UTF-8.", "Content-Type")


def _tagged(send: Send, request_id: bytes) -> Send:
    """Adds the request's id to the answer's headers."""

    async def tag(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
        await send(message)

    return tag


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


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers, then reads on for a while: who is still sending would not read an answer on a
    connection that was closed."""
    response = error_response(error)
    response.headers["connection"] = "close"
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if error.status_code in (400, 404, 408, 413, 415):
        await _linger(receive)
    await send({"type": "http.response.body", "body": b""})


async def _linger(receive: Receive) -> None:
    size = 0
    try:
        async with asyncio.timeout(limits.LINGER_SECONDS):
            while size < limits.LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
