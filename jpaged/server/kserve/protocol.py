"""What clients of the Open Inference Protocol send, and read.

A prompt is a tensor of BYTES with one element, `text_input`; a batch has several.  How tokens are
chosen is in `parameters`, or, as Triton's vLLM backend has it, JSON in `sampling_parameters`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Field, ValidationError

from jpaged.sampling_params import SamplingParams
from jpaged.server import limits
from jpaged.server.asking import sampling
from jpaged.server.errors import ApiError
from jpaged.server.kserve.binary import NoBinary
from jpaged.server.openai.protocol import (
    Count,
    Number,
    RequestId,
    ShortText,
    Stops,
    Strict,
    TokenIds,
    Whole,
)
from jpaged.server.reading import read_json

TEXT_INPUT, TEXT_OUTPUT, SAMPLING = "text_input", "text_output", "sampling_parameters"
EXCLUDE_INPUT = "exclude_input_in_output"
Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=limits.MAX_BODY_BYTES)]


class Sampling(Strict):
    n: Annotated[int, Field(ge=1, le=1)] | None = None  # one text for a prompt
    max_tokens: Annotated[int, Field(ge=1, le=limits.MAX_WHOLE)] | None = None
    min_tokens: Count | None = None
    temperature: Number | None = None
    top_k: Whole | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    seed: Whole | None = None
    stop: Stops | None = None
    stop_token_ids: TokenIds | None = None
    ignore_eos: bool | None = None

    def params(self, defaults: dict[str, Any]) -> SamplingParams:
        """Raises `RequestRejected`."""
        given = {name: getattr(self, name) for name in Sampling.model_fields}
        return sampling(defaults, **given)


class Parameters(Sampling):
    stream: bool | None = None
    exclude_input_in_output: bool | None = None
    priority: Whole = 0
    timeout: Count | None = Field(default=None, description="Microseconds, as Triton has it.")
    binary_data_output: NoBinary = False


class GenerateRequest(Strict):
    text_input: Text
    id: RequestId | None = None
    parameters: Parameters = Parameters()
    stream: bool | None = None
    exclude_input_in_output: bool | None = None
    sampling_parameters: Text | None = None


class Tensor(Strict):
    name: Name
    shape: Annotated[list[Count], Field(max_length=8)]
    datatype: Literal["BYTES", "BOOL"]
    data: Annotated[list[Any], Field(max_length=limits.MAX_PROMPTS)]
    parameters: dict[Name, bool | int | ShortText] | None = None


class WantedParameters(Strict):
    binary_data: NoBinary = False


class Wanted(Strict):
    name: Literal["text_output"]
    parameters: WantedParameters | None = None


class InferRequest(Strict):
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=8)]
    id: RequestId | None = None
    parameters: Parameters = Parameters()
    outputs: Annotated[list[Wanted], Field(max_length=1)] | None = None


class Generated(msgspec.Struct):
    model_name: str
    model_version: str
    text_output: str
    id: str | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET


class OutputTensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[str]


class Inferred(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(msgspec.Struct):
    live: bool


class Ready(msgspec.Struct):
    ready: bool


class ModelReady(msgspec.Struct):
    name: str
    ready: bool


def with_more(parameters: Parameters, text: str | None) -> Parameters:
    """With what `sampling_parameters` says.  Raises `ApiError`."""
    if text is None:
        return parameters
    more = read_json(text.encode())
    try:
        said = Sampling.model_validate(more)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or SAMPLING
        raise ApiError(400, f"{SAMPLING}: {place[:100]}: {first['msg']}") from error
    return parameters.model_copy(update=said.model_dump(exclude_unset=True))


def single(tensors: dict[str, Tensor], name: str, kind: type) -> Any:
    """The one element of an optional tensor.  Raises `ApiError`."""
    if name not in tensors:
        return None
    [value, *others] = flat(tensors[name]) or [None]
    if others or not isinstance(value, kind):
        raise ApiError(400, f"{name} must have one element, of {kind.__name__}.")
    return value


def flat(tensor: Tensor) -> list[Any]:
    """Its elements, in order.  Raises `ApiError` if they do not fill its shape."""
    found = tensor.data
    while found and all(isinstance(each, list) for each in found):
        found = [element for row in found for element in row]
    size = 1
    for length in tensor.shape:
        size *= length
    if len(found) != size:
        raise ApiError(400, f"{tensor.name} has {len(found)} elements, its shape says {size}.")
    return found
