"""POST /v1/completions."""

from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response
from msgspec import UNSET

from jpaged.engine.outputs import CompletionOutput, RequestOutput
from jpaged.sampling_params import SamplingParams
from jpaged.server import limits
from jpaged.server.answering import GENERATES, Route, answers, service_of, stream_or_whole
from jpaged.server.ask import Ask
from jpaged.server.collecting import together
from jpaged.server.errors import ApiError
from jpaged.server.models import Served
from jpaged.server.openai import translate
from jpaged.server.openai.answers import (
    FINGERPRINT,
    Completion,
    CompletionChoice,
    CompletionChunk,
    Tally,
    Usage,
    now,
    prompt_logprobs,
)
from jpaged.server.openai.logprobs import Spelling, completion_logprobs
from jpaged.server.openai.protocol import CompletionRequest
from jpaged.server.openai.searching import search_of
from jpaged.server.service import Started
from jpaged.server.sse import DONE, event

router = APIRouter(tags=["OpenAI"], route_class=Route)


@router.post("/v1/completions", responses=answers(Completion, GENERATES, has_stream=True))
async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Goes on with a prompt, or with several."""
    body.refuse_what_is_missing()
    service = service_of(request)
    served = service.models.find(body.model or "")
    name = f"cmpl-{translate.base_id(request, body)}"
    started = await service.start(asks_of(body, request, name, served))
    writer = Writer(body, name, started)
    return await stream_or_whole(
        request, started, writer.chunks() if body.stream else None, writer.answer
    )


def asks_of(body: CompletionRequest, request: Request, name: str, served: Served) -> list[Ask]:
    prompts = split(body.prompt)
    if len(prompts) * (body.n or 1) > limits.MAX_SAMPLES:
        raise ApiError(
            400, f"{len(prompts)} prompts x n is over the limit of {limits.MAX_SAMPLES}.", "n"
        )
    params, shared = params_of(body, served.defaults), translate.common(request, body)
    search = search_of(body, params, served.engine.card.max_model_len)
    return [
        Ask(
            **shared,
            prompt=prompt,
            messages=None,
            params=params,
            search=search,
            request_id=f"{name}-{at}",
            echo=bool(body.echo),
            add_special_tokens=body.add_special_tokens,
        )
        for at, prompt in enumerate(prompts)
    ]


def split(prompt: str | list) -> list[str | list[int]]:
    """One prompt, or several."""
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return [prompt]
    return prompt


def params_of(body: CompletionRequest, defaults: dict) -> SamplingParams:
    more: dict = {"logprobs": body.logprobs, "max_tokens": body.max_tokens}
    if body.max_tokens == 0:  # an echo: one token is computed, and not shown
        more |= {"max_tokens": 1, "min_tokens": 0}
    if body.echo and body.logprobs is not None:
        more["prompt_logprobs"] = max(body.logprobs, body.prompt_logprobs or 0)
    return translate.sampling(body, defaults, **more)


class Writer:
    """Outputs to choices.  A whole output is a delta that happens to be the only one."""

    def __init__(self, body: CompletionRequest, name: str, started: Sequence[Started]):
        self.body, self.name, self.started = body, name, started
        self.created, self.n = now(), body.n or 1
        self.model = body.model or started[0].card.name
        self.tokenizer = started[0].served.engine.door.tokenizer
        self.spelling = Spelling(self.tokenizer, bool(body.return_tokens_as_token_ids))
        self.gives_ids = body.return_token_ids or self.tokenizer is None
        self.tally = Tally()
        self._num_chars: dict[int, int] = {}  # of each choice, so far

    def answer(self, outputs: list[RequestOutput]) -> Completion:
        choices = [
            choice for at, output in enumerate(outputs) for choice in self._choices(at, output)
        ]
        return Completion(self.name, self.created, self.model, choices, self.tally.usage())

    async def chunks(self) -> AsyncIterator[bytes]:
        options = self.body.stream_options
        always = bool(options and options.continuous_usage_stats and options.include_usage)
        async for at, output in together(self.started):
            choices = self._choices(at, output)
            usage = self.tally.usage() if always else None
            yield b"".join([event(self._chunk([each], usage)) for each in choices])
        if options and options.include_usage:
            yield event(self._chunk([], self.tally.usage())) + DONE
        else:
            yield DONE

    def _chunk(self, choices: list[CompletionChoice], usage: Usage | None) -> CompletionChunk:
        counted = UNSET if usage is None else usage
        chunk = CompletionChunk(self.name, self.created, self.model, choices, counted)
        if not choices or choices[0].finish_reason:
            chunk.system_fingerprint = FINGERPRINT
        return chunk

    def _choices(self, at: int, output: RequestOutput) -> list[CompletionChoice]:
        self.tally.add(at, output, is_said=self.body.max_tokens != 0)
        return [self._choice(at, output, sample) for sample in output.outputs]

    def _choice(self, at: int, output: RequestOutput, sample: CompletionOutput) -> CompletionChoice:
        body, index = self.body, at * self.n + sample.index
        is_first = index not in self._num_chars
        is_shown = body.max_tokens != 0
        text, tokens = (sample.text, sample.token_ids) if is_shown else ("", [])
        logprobs = (sample.logprobs or []) if is_shown else []
        if body.echo and is_first:
            text = self._prompt_text(at, output) + text
            tokens = [*output.prompt_token_ids, *tokens]
            logprobs = [*(output.prompt_logprobs or []), *logprobs]
        offset = self._num_chars.setdefault(index, 0)
        self._num_chars[index] += len(text)
        choice = CompletionChoice(index, text, None, sample.finish_reason, sample.stop_reason)
        if body.logprobs is not None:
            choice.logprobs = completion_logprobs(
                tokens, logprobs, body.logprobs, offset, self.spelling
            )
        if not body.stream:
            choice.token_ids = choice.prompt_token_ids = choice.prompt_logprobs = None
        if self.gives_ids:
            choice.token_ids = sample.token_ids
            choice.prompt_token_ids = output.prompt_token_ids if is_first else UNSET
        if body.prompt_logprobs is not None and is_first:
            choice.prompt_logprobs = prompt_logprobs(output)
        return choice

    def _prompt_text(self, at: int, output: RequestOutput) -> str:
        started = self.started[at]
        if started.prompt_text is not None and self.body.truncate_prompt_tokens is None:
            return started.prompt_text
        if self.tokenizer is None:
            return ""
        skips = self.body.skip_special_tokens
        return self.tokenizer.decode(output.prompt_token_ids, skip_special_tokens=skips)
