"""A refusal in the middle of a request, whose body may still be on its way."""

import asyncio

from starlette.types import Receive, Send

from jpaged.server import limits
from jpaged.server.errors import ApiError, error_response
from jpaged.server.exchange import note_refusal


async def refuse(error: ApiError, receive: Receive, send: Send) -> None:
    """Answers, then reads on for a while: who is still sending would not read an answer on a
    connection that was closed."""
    note_refusal(error)
    response = error_response(error)
    response.headers["connection"] = "close"
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
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
