"""How a route answers, and how OpenAPI tells of it: what the protocols' files have in common."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from jpaged.engine.outputs import RequestOutput
from jpaged.server.browsers import accept_as_json
from jpaged.server.collecting import whole
from jpaged.server.errors import ClientGone, ErrorBody
from jpaged.server.reading import StrictRequest
from jpaged.server.service import Service, Started
from jpaged.server.sse import Json, Stream

CLIENT_CLOSED_REQUEST = 499  # nobody reads it
EVENTS = "text/event-stream"
WITH_BODY = ("POST", "PUT", "PATCH")
READS = (400, 401, 403, 404, 405, 408, 413, 414, 415, 431)  # what may befall a request with a body
GENERATES = (*READS, 429, 500, 503, 504)
LOOKS = (400, 401, 403, 404, 405, 414, 431)
MEANINGS = {
    400: "It is malformed, or asks for something that is not possible.",
    401: "It has no valid API key.",
    403: "It is not allowed from here.",
    404: "There is no such model, or no such route.",
    405: "The route has no such method.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "The body is not plain JSON in UTF-8.",
    429: "This key has too many requests under way.",
    431: "The headers are too large.",
    500: "The engine failed on this request.",
    503: "There is no room, the server is shutting down, or the engine does not run.",
    504: "It was not finished within its deadline.",
}


class Route(APIRoute):
    """Reads bodies strictly, if they say that they are JSON; every router's `route_class`."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive)
            if request.method in WITH_BODY and await strict.body():
                accept_as_json(strict.scope)
            return await handle(strict)

        return strictly


def service_of(request: Request) -> Service:
    return request.app.state.service


async def stream_or_whole(
    request: Request,
    started: Sequence[Started],
    chunks: AsyncIterator[bytes] | None,
    answer: Callable[[list[RequestOutput]], object],
) -> Response:
    """A stream of chunks, if there are some to come, or else one answer made from whole outputs."""
    if chunks is not None:
        return Stream(started, chunks)
    try:
        outputs = await whole(request.receive, started)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Json(answer(outputs))


def answers(kind: Any, statuses: Sequence[int], has_stream: bool = False) -> dict[int | str, Any]:
    """What OpenAPI says of a route's answers."""
    return described(kind, statuses, schema_of(ErrorBody), EVENTS if has_stream else None)


def described(
    kind: Any, statuses: Sequence[int], error_schema: dict[str, Any], streams_as: str | None
) -> dict[int | str, Any]:
    """streams_as: the content type of a stream, if there may be one in place of one answer."""
    content: dict[str, Any] = {"application/json": {"schema": schema_of(kind)}}
    if streams_as:
        # of no type: some read it as that of the whole text, others as that of one event
        content[streams_as] = {"schema": {"description": "One JSON value after the other."}}
    error = {"application/json": {"schema": error_schema}}
    found: dict[int | str, Any] = {200: {"description": "It worked.", "content": content}}
    return found | {each: {"description": MEANINGS[each], "content": error} for each in statuses}


def schema_of(kind: Any) -> dict[str, Any]:
    """A struct's JSON schema, with what it refers to written out."""
    [schema], parts = msgspec.json.schema_components([kind], ref_template="{name}")

    def written_out(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return written_out(parts[value["$ref"]])
            return {key: written_out(each) for key, each in value.items() if key != "default"}
        return [written_out(each) for each in value] if isinstance(value, list) else value

    return written_out(schema)
