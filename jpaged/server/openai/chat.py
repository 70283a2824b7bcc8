"""POST /v1/chat/completions."""

from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from jpaged.engine.outputs import CompletionOutput, RequestOutput
from jpaged.server.answering import GENERATES, Route, answers, service_of, stream_or_whole
from jpaged.server.ask import Ask
from jpaged.server.collecting import together
from jpaged.server.models import Served
from jpaged.server.openai import translate
from jpaged.server.openai.answers import (
    FINGERPRINT,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatMessage,
    ChunkChoice,
    Delta,
    Tally,
    now,
    prompt_logprobs,
)
from jpaged.server.openai.logprobs import Spelling, chat_logprobs
from jpaged.server.openai.protocol import ChatCompletionRequest
from jpaged.server.openai.searching import search_of
from jpaged.server.service import Started
from jpaged.server.sse import DONE, event

router = APIRouter(tags=["OpenAI"], route_class=Route)


@router.post("/v1/chat/completions", responses=answers(ChatCompletion, GENERATES, has_stream=True))
async def create_chat_completion(body: ChatCompletionRequest, request: Request) -> Response:
    """Says the next message of a conversation."""
    body.refuse_what_is_missing()
    service = service_of(request)
    served = service.models.find(body.model or "")
    name = f"chatcmpl-{translate.base_id(request, body)}"
    started = await service.start([ask_of(body, request, name, served)])
    writer = Writer(body, name, started)
    return await stream_or_whole(
        request, started, writer.chunks() if body.stream else None, writer.answer
    )


def ask_of(body: ChatCompletionRequest, request: Request, name: str, served: Served) -> Ask:
    # what the request leaves open: the checkpoint's most, or the rest of the context
    most = body.max_completion_tokens or body.max_tokens or served.defaults.get("max_tokens")
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    params = translate.sampling(body, served.defaults, max_tokens=most, logprobs=logprobs)
    return Ask(
        **translate.common(request, body),
        prompt=None,
        messages=[message.plain() for message in body.messages],
        params=params,
        search=search_of(body, params, served.engine.card.max_model_len),
        request_id=name,
        template_options=body.template_options(),
        echo=body.echo,
        add_special_tokens=body.add_special_tokens,
    )


class Writer:
    """Outputs to messages.  A whole output is a delta that happens to be the only one."""

    def __init__(self, body: ChatCompletionRequest, name: str, started: Sequence[Started]):
        self.body, self.name, self.started = body, name, started
        self.created, self.model = now(), body.model or started[0].served.name
        self.spelling = Spelling(
            started[0].served.engine.door.tokenizer, bool(body.return_tokens_as_token_ids)
        )
        self.tally = Tally()
        self._begun: set[int] = set()  # choices whose role was told

    def answer(self, outputs: list[RequestOutput]) -> ChatCompletion:
        [output] = outputs
        self.tally.add(0, output)
        body = self.body
        answer = ChatCompletion(
            self.name,
            self.created,
            self.model,
            [self._choice(sample) for sample in output.outputs],
            self.tally.usage(),
        )
        if body.prompt_logprobs is not None:
            answer.prompt_logprobs = prompt_logprobs(output)
        if body.return_token_ids:
            answer.prompt_token_ids = output.prompt_token_ids
        return answer

    def _choice(self, sample: CompletionOutput) -> ChatChoice:
        return ChatChoice(
            sample.index,
            ChatMessage(self._echo() + sample.text),
            self._logprobs(sample),
            sample.finish_reason,
            sample.stop_reason,
            sample.token_ids if self.body.return_token_ids else None,
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        options = self.body.stream_options
        has_usage = bool(options and options.include_usage)
        always = bool(options and options.continuous_usage_stats and has_usage)
        async for at, output in together(self.started):
            self.tally.add(at, output)
            chunks = [self._chunk([each]) for each in self._choices(output)]
            if always:
                for chunk in chunks:
                    chunk.usage = self.tally.usage()
            if self.body.return_token_ids and self._is_first(output):
                chunks[0].prompt_token_ids = output.prompt_token_ids
            self._begun.update(sample.index for sample in output.outputs)
            yield b"".join([event(chunk) for chunk in chunks])
        last = self._chunk([])
        last.usage = self.tally.usage()
        yield event(last) + DONE if has_usage else DONE

    def _is_first(self, output: RequestOutput) -> bool:
        return bool(output.outputs) and not self._begun

    def _choices(self, output: RequestOutput) -> list[ChunkChoice]:
        choices = []
        for sample in output.outputs:
            if sample.index not in self._begun:
                role = Delta("assistant", self._echo())
                choices.append(ChunkChoice(sample.index, role))
            choices.append(
                ChunkChoice(
                    sample.index,
                    Delta(content=sample.text),
                    self._logprobs(sample),
                    sample.finish_reason,
                    sample.stop_reason if sample.finish_reason else UNSET,
                    sample.token_ids if self.body.return_token_ids else UNSET,
                )
            )
        return choices

    def _chunk(self, choices: list[ChunkChoice]) -> ChatChunk:
        chunk = ChatChunk(self.name, self.created, self.model, choices)
        if not choices or choices[0].finish_reason:
            chunk.system_fingerprint = FINGERPRINT
        return chunk

    def _echo(self) -> str:
        """The message that is gone on with, if the client wants it back."""
        last = self.body.messages[-1]
        if not self.body.echo or last.role != "assistant":
            return ""
        return last.plain()["content"]

    def _logprobs(self, sample: CompletionOutput) -> ChatLogprobs | None:
        if sample.logprobs is None or not self.body.logprobs:
            return None
        most = self.body.top_logprobs or 0
        return chat_logprobs(sample.token_ids, sample.logprobs, most, self.spelling)
