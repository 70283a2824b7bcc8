"""POST …/generate, …/generate_stream and …/infer of a model.

As with Triton's vLLM backend, a whole answer begins with its prompt and a stream does not, unless
`exclude_input_in_output` says otherwise.
"""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from jpaged.engine.outputs import RequestOutput
from jpaged.server import limits
from jpaged.server.answering import EVENTS, GENERATES, service_of, stream_or_whole
from jpaged.server.ask import Ask
from jpaged.server.asking import from_headers
from jpaged.server.errors import ApiError
from jpaged.server.kserve.binary import TensorRoute
from jpaged.server.kserve.models import find
from jpaged.server.kserve.protocol import (
    EXCLUDE_INPUT,
    SAMPLING,
    TEXT_INPUT,
    TEXT_OUTPUT,
    Generated,
    GenerateRequest,
    Inferred,
    InferRequest,
    OutputTensor,
    Parameters,
    flat,
    single,
    with_more,
)
from jpaged.server.models import Served
from jpaged.server.plain import plain_answers, plain_event
from jpaged.server.service import Started
from jpaged.server.sse import Stream, event

MICROSECOND = 1e-6
router = APIRouter(tags=["KServe"], route_class=TensorRoute)
# the decorator below is matched first: a name may have slashes
VERSION, MODEL = "/v2/models/{model:path}/versions/{version}", "/v2/models/{model:path}"
GENERATED, INFERRED = plain_answers(Generated, GENERATES), plain_answers(Inferred, GENERATES)
STREAMED = plain_answers(Generated, GENERATES, EVENTS)


@router.post(f"{MODEL}/generate", responses=GENERATED)
@router.post(f"{VERSION}/generate", responses=GENERATED, operation_id="generate_by_version")
async def generate(
    body: GenerateRequest, request: Request, model: str, version: str = ""
) -> Response:
    """Goes on with a text."""
    if body.stream or body.parameters.stream:
        raise ApiError(400, "A stream is read from generate_stream.", "stream")
    [started] = await _start(body, request, find(request, model, version))
    head = "" if _excludes_input(body, by_default=False) else body.text_input
    return await stream_or_whole(
        request, [started], None, lambda all: _generated(started, body.id, all[0], head)
    )


@router.post(f"{MODEL}/generate_stream", responses=STREAMED)
@router.post(f"{VERSION}/generate_stream", responses=STREAMED, operation_id="stream_by_version")
async def generate_stream(
    body: GenerateRequest, request: Request, model: str, version: str = ""
) -> Response:
    """Goes on with a text; server-sent events with what is new."""
    if body.stream is False or body.parameters.stream is False:
        raise ApiError(400, "A whole answer is read from generate.", "stream")
    [started] = await _start(body, request, find(request, model, version))
    head = "" if _excludes_input(body, by_default=True) else body.text_input
    return Stream([started], _events(started, body.id, head), plain_event)


@router.post(f"{MODEL}/infer", responses=INFERRED)
@router.post(f"{VERSION}/infer", responses=INFERRED, operation_id="infer_by_version")
async def infer(body: InferRequest, request: Request, model: str, version: str = "") -> Response:
    """Goes on with each text of a tensor."""
    tensors = {tensor.name: tensor for tensor in body.inputs}
    unknown = sorted(set(tensors) - {TEXT_INPUT, SAMPLING, EXCLUDE_INPUT})
    if unknown or TEXT_INPUT not in tensors or len(tensors) < len(body.inputs):
        raise ApiError(400, f"inputs are {TEXT_INPUT}, {SAMPLING} and {EXCLUDE_INPUT}, once each.")
    if body.parameters.stream:
        raise ApiError(400, "A stream is read from generate_stream.", "stream")
    texts = flat(tensors[TEXT_INPUT])
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, f"{TEXT_INPUT} must have texts.")
    if len(texts) > limits.MAX_PROMPTS:
        raise ApiError(400, f"{TEXT_INPUT} has more than {limits.MAX_PROMPTS} texts.")
    parameters = with_more(body.parameters, single(tensors, SAMPLING, str))
    excludes = single(tensors, EXCLUDE_INPUT, bool)
    if excludes is None:
        excludes = bool(parameters.exclude_input_in_output)
    served = find(request, model, version)
    asks = _asks(texts, parameters, request, served, body.id)
    started = await service_of(request).start(asks)
    heads = [""] * len(texts) if excludes else texts
    shape = tensors[TEXT_INPUT].shape

    def answer(outputs: list[RequestOutput]) -> Inferred:
        said = [head + each.outputs[0].text for head, each in zip(heads, outputs, strict=True)]
        tensor = OutputTensor(TEXT_OUTPUT, "BYTES", shape, said)
        return Inferred(served.name, served.version, [tensor], body.id or UNSET)

    return await stream_or_whole(request, started, None, answer)


async def _start(body: GenerateRequest, request: Request, served: Served) -> list[Started]:
    parameters = with_more(body.parameters, body.sampling_parameters)
    asks = _asks([body.text_input], parameters, request, served, body.id)
    return await service_of(request).start(asks)


def _asks(
    texts: list[str],
    parameters: Parameters,
    request: Request,
    served: Served,
    request_id: str | None,
) -> list[Ask]:
    params, shared = parameters.params(served.defaults), from_headers(request)
    if parameters.timeout:
        shared["deadline"] = min(parameters.timeout * MICROSECOND, limits.MAX_DEADLINE)
    return [
        Ask(
            model=f"{served.name}@{served.version}",
            prompt=text,
            messages=None,
            params=params,
            request_id=f"infer-{request_id or request.state.request_id}-{at}",
            priority=parameters.priority,
            **shared,
        )
        for at, text in enumerate(texts)
    ]


def _excludes_input(body: GenerateRequest, by_default: bool) -> bool:
    said = body.exclude_input_in_output, body.parameters.exclude_input_in_output
    return next((each for each in said if each is not None), by_default)


def _generated(
    started: Started, request_id: str | None, output: RequestOutput, head: str
) -> Generated:
    [sample] = output.outputs
    served = started.served
    reason = sample.finish_reason or UNSET
    text = head + sample.text
    return Generated(served.name, served.version, text, request_id or UNSET, reason)


async def _events(started: Started, request_id: str | None, head: str) -> AsyncIterator[bytes]:
    async for output in started.deltas():
        yield event(_generated(started, request_id, output, head))
        head = ""
