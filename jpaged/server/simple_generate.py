"""POST /generate: a prompt in, texts out, in the words of transformers' text-generation pipeline.

    {"prompt": "Once", "max_length": 50, "num_return_sequences": 1} ─► {"generated_text": "Once …"}

One text for one sequence, a list of them for several.  As there, `max_length` counts the prompt's
tokens too, `max_new_tokens` does not, and a text begins with its prompt unless `return_full_text`
says otherwise.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field

from jpaged.engine.outputs import RequestOutput
from jpaged.sampling_params import MOST_SAMPLES
from jpaged.server import limits
from jpaged.server.answering import GENERATES, Route, answers, service_of, stream_or_whole
from jpaged.server.ask import Ask
from jpaged.server.asking import from_headers, sampling
from jpaged.server.errors import ApiError
from jpaged.server.openai.protocol import (
    Count,
    ModelName,
    Number,
    Stops,
    Strict,
    Whole,
)
from jpaged.server.sentences import sentence
from jpaged.server.service import Started
from jpaged.server.sse import DONE, event

router = APIRouter(tags=["Generate"], route_class=Route)
LENGTHS = "it has max_length, which counts the prompt's tokens too, and max_new_tokens"
MostTokens = Annotated[int, Field(ge=1, le=limits.MAX_WHOLE)]


class GenerateRequest(Strict):
    prompt: str
    max_length: MostTokens | None = None
    max_new_tokens: MostTokens | None = None
    num_return_sequences: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 1
    return_full_text: bool = True
    do_sample: bool = True
    temperature: Number | None = None
    top_k: Whole | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    min_new_tokens: Count | None = None
    seed: Whole | None = None
    stop: Stops | None = None
    stream: bool = False
    model: ModelName = ""
    max_tokens: Annotated[None, sentence(f"is not of this route; {LENGTHS}")] = None


class Generated(msgspec.Struct):
    generated_text: str | list[str]


class Piece(msgspec.Struct):
    """Of a stream: what is new in one of the texts."""

    generated_text: str
    index: int


@router.post("/generate", responses=answers(Generated, GENERATES, has_stream=True))
async def generate(body: GenerateRequest, request: Request) -> Response:
    """Goes on with a prompt."""
    [started] = await service_of(request).start([await ask_of(body, request)])
    prompt = body.prompt if body.return_full_text else ""
    chunks = _chunks(started, prompt) if body.stream else None
    return await stream_or_whole(request, [started], chunks, lambda all: _answer(all[0], prompt))


async def ask_of(body: GenerateRequest, request: Request) -> Ask:
    served = service_of(request).models.find(body.model)
    params = sampling(
        served.defaults,
        n=body.num_return_sequences,
        temperature=body.temperature if body.do_sample else 0.0,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        min_tokens=body.min_new_tokens,
        max_tokens=body.max_new_tokens,
        seed=body.seed,
        stop=body.stop,
    )
    ask = Ask(
        model=body.model,
        prompt=body.prompt,
        messages=None,
        params=params,
        request_id=f"generate-{request.state.request_id}",
        **from_headers(request),
    )
    if body.max_length is None or body.max_new_tokens is not None:
        return ask
    return await _within(ask, body.max_length, request)


async def _within(ask: Ask, max_length: int, request: Request) -> Ask:
    """The same, with so many tokens of prompt and answer together."""
    service = service_of(request)
    served = service.models.find(ask.model)
    tokens, _ = await service.encode(served, ask)
    if len(tokens) >= max_length:
        raise ApiError(
            400,
            f"max_length={max_length} counts the prompt's {len(tokens)} tokens too; raise it, or "
            "send max_new_tokens.",
            "max_length",
        )
    params = replace(ask.params, max_tokens=max_length - len(tokens))
    exactly = f"{served.name}@{served.version}"  # another version may spell otherwise
    return replace(ask, model=exactly, prompt=tokens, params=params)


def _answer(output: RequestOutput, prompt: str) -> Generated:
    texts = [prompt + sample.text for sample in output.outputs]
    return Generated(texts[0] if len(texts) == 1 else texts)


async def _chunks(started: Started, prompt: str) -> AsyncIterator[bytes]:
    begun: set[int] = set()
    async for output in started.deltas():
        pieces = []
        for sample in output.outputs:
            head = "" if sample.index in begun else prompt
            begun.add(sample.index)
            pieces.append(event(Piece(head + sample.text, sample.index)))
        yield b"".join(pieces)
    yield DONE
