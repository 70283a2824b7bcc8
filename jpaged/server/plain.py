"""Errors as Ollama's and KServe's clients read them: {"error": "what is wrong"}, and a status.

What is refused before a route is looked for (keys, tricks in paths, sizes) stays in OpenAI's shape.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import Response
from starlette.exceptions import HTTPException

from jpaged.server.answering import described, schema_of
from jpaged.server.errors import ErrorBody
from jpaged.server.sse import event


class PlainError(msgspec.Struct):
    error: str


def plain_answers(
    kind: Any, statuses: Sequence[int], streams_as: str | None = None
) -> dict[int | str, Any]:
    """What OpenAPI says of a route's answers."""
    either = {"anyOf": [schema_of(PlainError), schema_of(ErrorBody)]}
    return described(kind, statuses, either, streams_as)


def is_plain(path: str) -> bool:
    """Whether it is one of theirs, be it a route or none."""
    return path == "/v2" or path.startswith(("/api/", "/v2/"))


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
