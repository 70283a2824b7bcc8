"""From a request to `Ask`: what the protocols have in common that are simpler than OpenAI's."""

from typing import Any

from starlette.requests import Request

from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.terms import Terms
from jpaged.server.openai.translate import header_deadline


def sampling(defaults: dict[str, Any], **given: Any) -> SamplingParams:
    """The checkpoint's defaults, with what a request says; None says nothing.  Raises
    `RequestRejected`."""
    said = {name: value for name, value in given.items() if value is not None}
    most = {"max_tokens": None}  # the rest of the context
    return SamplingParams(**{**most, **defaults, **said, "output_kind": RequestOutputKind.DELTA})


def from_headers(request: Request) -> dict[str, Any]:
    """Fields of `Ask` that no body names."""
    client = request.state.client
    return {
        "client": client,
        "terms": Terms(client=client),
        "deadline": header_deadline(request),
    }
