"""POST /api/generate and /api/chat: lines of JSON unless `stream` is false."""

import time
from collections.abc import AsyncIterator, Callable

import msgspec
from fastapi import APIRouter, Request, Response

from jpaged.engine.outputs import CompletionOutput, RequestOutput
from jpaged.server.answering import GENERATES, Route, service_of, stream_or_whole
from jpaged.server.ask import Ask
from jpaged.server.asking import from_headers
from jpaged.server.models import Served
from jpaged.server.ollama.answers import (
    ChatChunk,
    ChatMessage,
    Counts,
    GenerateChunk,
    timestamp,
)
from jpaged.server.ollama.models import find
from jpaged.server.ollama.protocol import ChatRequest, GenerateRequest, Generating
from jpaged.server.openai.logprobs import Spelling, chat_logprobs
from jpaged.server.plain import line, plain_answers, plain_line
from jpaged.server.service import Started
from jpaged.server.sse import Json, Stream

NDJSON = "application/x-ndjson"
HEADERS = [(b"content-type", NDJSON.encode()), (b"x-accel-buffering", b"no")]
Chunk = Callable[[str, str], Counts]  # model, text

router = APIRouter(tags=["Ollama"], route_class=Route)


@router.post("/api/generate", responses=plain_answers(GenerateChunk, GENERATES, NDJSON))
async def generate(body: GenerateRequest, request: Request) -> Response:
    """Answers a prompt, in the model's template unless it is raw."""
    body.refuse_what_is_missing()
    served = find(request, body.model)
    if not body.prompt:
        return _loaded(body, _generate_chunk(body.model, ""))
    prompt, messages = body.prompt, None
    if not body.raw and (served.chat_template is not None or body.system):
        system = [{"role": "system", "content": body.system}] if body.system else []
        prompt, messages = None, [*system, {"role": "user", "content": body.prompt}]
    return await _answer(body, request, served, prompt, messages, _generate_chunk)


@router.post("/api/chat", responses=plain_answers(ChatChunk, GENERATES, NDJSON))
async def chat(body: ChatRequest, request: Request) -> Response:
    """Says the next message of a conversation."""
    body.refuse_what_is_missing()
    served = find(request, body.model)
    if not body.messages:
        return _loaded(body, _chat_chunk(body.model, ""))
    messages = [message.plain() for message in body.messages]
    return await _answer(body, request, served, None, messages, _chat_chunk)


def _generate_chunk(model: str, text: str) -> Counts:
    return GenerateChunk(model=model, created_at=timestamp(), response=text)


def _chat_chunk(model: str, text: str) -> Counts:
    return ChatChunk(model=model, created_at=timestamp(), message=ChatMessage(text))


def _loaded(body: Generating, chunk: Counts) -> Response:
    """To nothing: clients ask so that a model is loaded, and it is; or that it be unloaded, which
    they are told, and which is for /admin to do."""
    chunk.done, chunk.done_reason = True, "unload" if body.is_farewell else "load"
    return Json(chunk)


async def _answer(
    body: Generating,
    request: Request,
    served: Served,
    prompt: str | None,
    messages: list[dict[str, str]] | None,
    chunk: Chunk,
) -> Response:
    ask = Ask(
        model=f"{served.name}@{served.version}",
        prompt=prompt,
        messages=messages,
        params=body.sampling(served),
        request_id=f"ollama-{request.state.request_id}",
        template_options=body.template_options(),
        **from_headers(request),
    )
    [started] = await service_of(request).start([ask])
    writer = Writer(body, started, chunk)
    if body.stream is False:
        return await stream_or_whole(request, [started], None, lambda all: writer.chunk(all[0]))
    return Stream([started], writer.lines(), plain_line, HEADERS)


class Writer:
    """Outputs to chunks.  A whole output is a delta that happens to be the only one."""

    def __init__(self, body: Generating, started: Started, chunk: Chunk):
        self.body, self.started, self._new = body, started, chunk
        self.spelling = Spelling(started.served.engine.door.tokenizer)

    async def lines(self) -> AsyncIterator[bytes]:
        async for output in self.started.deltas():
            [sample] = output.outputs
            # a token may be half a character, which has no text yet
            if sample.text or sample.finish_reason or self.body.logprobs:
                yield line(self.chunk(output))

    def chunk(self, output: RequestOutput) -> msgspec.Struct:
        [sample] = output.outputs
        chunk = self._new(self.body.model, sample.text)
        self._add_logprobs(chunk, sample)
        if sample.finish_reason is not None:
            chunk.finish(output, sample, time.monotonic() - self.started.request.arrival)
        return chunk

    def _add_logprobs(self, chunk: Counts, sample: CompletionOutput) -> None:
        if self.body.logprobs and sample.logprobs is not None:
            most = self.body.top_logprobs or 0
            found = chat_logprobs(sample.token_ids, sample.logprobs, most, self.spelling)
            chunk.logprobs = found.content
