"""The edge: what is wrong with a request before anybody asks who sends it, and what it wants.

    path, headers, request id ─► edge ─► keys ─► body ─► app

Everything behind it sees a path that means one thing, and an id that is harmless to write down.
Pure ASGI: a `BaseHTTPMiddleware` would cost every chunk of every stream.
"""

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jpaged.server import limits
from jpaged.server.errors import ApiError
from jpaged.server.refusing import refuse

# an encoded slash means one path to a proxy and another to a router; only names of models have them
TRICKS = re.compile(rb"//|/\.\.?(/|$)|%2f|%5c|%2e|%00|\\", re.IGNORECASE)
NAMED = re.compile(rb"/v[12]/models/[^/]+")


class Edge:
    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse_socket(scope, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = _wanted_id(headers)
        is_valid = request_id is None or limits.is_request_id(request_id)
        name = request_id if request_id and is_valid else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = name
        answer = _tagged(send, name.encode())
        try:
            if not is_valid:
                raise ApiError(400, f"X-Request-Id must match {limits.REQUEST_ID_PATTERN}.")
            _check_path(scope)
            _check_headers(headers)
        except ApiError as error:
            await refuse(error, receive, answer)
        else:
            await self.app(scope, receive, answer)


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


def _tagged(send: Send, request_id: bytes) -> Send:
    """Adds the request's id to the answer's headers."""

    async def tag(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
        await send(message)

    return tag
