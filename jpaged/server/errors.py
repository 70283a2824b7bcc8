"""What a client is told when something is refused, or fails: OpenAI's shape, and a status.

    {"error": {"message": …, "type": …, "param": …, "code": 400}}

Messages of ours go to the client as they are; of anything unforeseen he only learns that it
happened, because its text could tell of the inside.
"""

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jpaged.errors import RequestRejected

TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    408: "RequestTimeoutError",
    413: "PayloadTooLargeError",
    415: "UnsupportedMediaTypeError",
    429: "RateLimitError",
    431: "HeadersTooLargeError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}
JSON = b"application/json"


class ErrorInfo(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: int


class ErrorBody(msgspec.Struct):
    error: ErrorInfo


class ApiError(HTTPException):
    """An answer that is an error.  Frameworks let an `HTTPException` through to its handler.

    reason: what the log says of it, if not the message.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str = "",
    ):
        super().__init__(status, message, headers=dict(headers or {}))
        self.param, self.reason = param, reason


class ChatRefused(RequestRejected):
    """By a template, whose words may be those of the chat."""


class UnknownModel(ApiError):
    def __init__(self, model: str):
        super().__init__(404, f"The model {model!r} does not exist.", "model")


class Overloaded(ApiError):
    """No room in the queue (503), or for this client (429)."""

    def __init__(self, message: str, retry_after: float, status: int = 503):
        seconds = max(1, round(retry_after))
        super().__init__(status, message, headers={"retry-after": str(seconds)})
        self.retry_after = seconds


class Draining(Overloaded):
    def __init__(self) -> None:
        super().__init__("The server is shutting down.", retry_after=5)


class ShuttingDown(ApiError):
    """A request that was cut off because the server stops at once."""

    def __init__(self) -> None:
        super().__init__(503, "The server stopped before the request was finished.")


class DeadlineExceeded(ApiError):
    def __init__(self, seconds: float):
        super().__init__(504, f"The request was not finished within its {seconds:g} seconds.")


class EngineFailed(ApiError):
    """The engine, or this request in it, failed; why is in the log."""

    def __init__(self, message: str, status: int = 500):
        super().__init__(status, message)


class ClientGone(Exception):
    """Nobody is left to answer."""


def error_json(error: HTTPException) -> bytes:
    status = error.status_code
    kind = TYPES.get(status, "InternalServerError")
    info = ErrorInfo(str(error.detail), kind, getattr(error, "param", None), status)
    return msgspec.json.encode(ErrorBody(info))


def error_response(error: HTTPException) -> Response:
    return Response(error_json(error), error.status_code, error.headers, "application/json")
