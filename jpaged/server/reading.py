"""JSON as a careful reader reads it: one meaning, or none.

`json` takes NaN, duplicate keys (the last one wins) and half characters; two readers of one text
could then understand different things, and what the second one does would not be what was checked.
"""

import json
from typing import Any

from starlette.requests import Request

from jpaged.server.errors import ApiError

MAX_DIGITS = 40  # no number of ours is longer, and Python takes quadratic time for them


def read_json(body: bytes) -> Any:
    """Raises `ApiError` (400)."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(
            400, f"The body is not UTF-8: {error.reason} at byte {error.start}."
        ) from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
        )
        if "\\u" in text:
            _refuse_half_characters(value)
    except json.JSONDecodeError as error:
        raise ApiError(
            400, f"The body is not JSON: {error.msg} at character {error.pos}."
        ) from error
    except RecursionError as error:
        raise ApiError(400, "The body is nested too deeply.") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ApiError(400, f"The body has {twice[:100]!r} twice.")
    return values


def _refuse_constant(name: str) -> None:
    raise ApiError(400, f"The body is not JSON: {name} is no number there.")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ApiError(400, f"The body has a number of {len(digits)} digits.")
    return int(digits)


def _refuse_half_characters(value: Any) -> None:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ApiError(400, "The body has half of a character (a lone surrogate).")
    elif isinstance(value, dict):
        for key, each in value.items():
            _refuse_half_characters(key)
            _refuse_half_characters(each)
    elif isinstance(value, list):
        for each in value:
            _refuse_half_characters(each)


class StrictRequest(Request):
    """A request whose JSON is read by `read_json`."""

    async def json(self) -> Any:
        return read_json(await self.body())
