"""Errors as Ollama's and KServe's clients read them: {"error": "what is wrong"}, and a status.

What is refused before a route is found (keys, paths, sizes) stays in OpenAI's shape.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from jpaged.errors import RequestRejected
from jpaged.server.answering import Route, described, schema_of
from jpaged.server.errors import ErrorBody, error_response
from jpaged.server.sse import Stream, event

REFUSALS = (HTTPException, RequestValidationError, RequestRejected)


class PlainError(msgspec.Struct):
    error: str


def plain_answers(
    kind: Any, statuses: Sequence[int], streams_as: str | None = None
) -> dict[int | str, Any]:
    """What OpenAPI says of a route's answers."""
    either = {"anyOf": [schema_of(PlainError), schema_of(ErrorBody)]}
    return described(kind, statuses, either, streams_as)


class PlainRoute(Route):
    """Refuses as the application does, in fewer words."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def plainly(request: Request) -> Response:
            try:
                return await handle(request)
            except REFUSALS as error:
                kind = next(kind for kind in REFUSALS if isinstance(error, kind))
                return plain(await request.app.exception_handlers[kind](request, error))

        return plainly


class PlainStream(Stream):
    """A stream whose errors are plain, also those before it begins."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            await plain(error_response(error))(scope, receive, send)


def plain(response: Response) -> Response:
    """An error in OpenAI's shape, as text alone.  Status and headers stay."""
    message = msgspec.json.decode(response.body)["error"]["message"]
    own = ("content-type", "content-length")
    headers = {name: value for name, value in response.headers.items() if name not in own}
    body = msgspec.json.encode(PlainError(message))
    return Response(body, response.status_code, headers, "application/json")


def line(value: object) -> bytes:
    """One of many JSON values, as NDJSON has it."""
    return msgspec.json.encode(value) + b"\n"


def plain_line(error: HTTPException) -> bytes:
    return line(PlainError(str(error.detail)))


def plain_event(error: HTTPException) -> bytes:
    return event(PlainError(str(error.detail)))
