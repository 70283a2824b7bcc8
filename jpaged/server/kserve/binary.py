"""Triton's binary tensors are not read here: what a client is told that sends them.

Its client does so unless it is asked not to: behind the JSON come the tensors' bytes, and a header
says where the JSON ends.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Request, Response
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from jpaged.server.answering import Route
from jpaged.server.errors import ApiError

HEADER = "inference-header-content-length"
INSTEAD = (
    "binary tensors are not read, tensors are JSON; in tritonclient, give binary_data=False to "
    "InferInput.set_data_from_numpy and to an InferRequestedOutput of text_output"
)


def _refuse(is_wanted: bool) -> bool:
    if is_wanted:
        raise PydanticCustomError("binary", "{instead}", {"instead": INSTEAD})
    return is_wanted


NoBinary = Annotated[
    bool, AfterValidator(_refuse), WithJsonSchema({"type": "boolean", "const": False})
]


class TensorRoute(Route):
    """Tells of it before anybody takes the bytes for JSON."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def in_json(request: Request) -> Response:
            if HEADER in request.headers:
                raise ApiError(400, INSTEAD)
            return await handle(request)

        return in_json
