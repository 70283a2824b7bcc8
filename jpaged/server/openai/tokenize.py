"""POST /tokenize and /detokenize, as vLLM has them: what a model makes of a text, and back."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from jpaged.sampling_params import SamplingParams
from jpaged.server import limits
from jpaged.server.answering import READS, Route, answers, service_of
from jpaged.server.ask import Ask
from jpaged.server.errors import ApiError
from jpaged.server.openai.answers import Text, Tokens
from jpaged.server.openai.protocol import Chat, Message, ModelName, Strict, TokenId
from jpaged.server.sse import Json

router = APIRouter(tags=["OpenAI"], route_class=Route)
Messages = Annotated[list[Message], Field(min_length=1, max_length=limits.MAX_MESSAGES)]


class TokenizeRequest(Chat):
    """A prompt, or the messages of a chat."""

    model: ModelName | None = None
    prompt: str | None = None
    messages: Messages | None = None  # type: ignore[assignment]
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = False


class DetokenizeRequest(Strict):
    model: ModelName | None = None
    tokens: list[TokenId]


@router.post("/tokenize", responses=answers(Tokens, (*READS, 503)))
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """The tokens of a prompt, or of a chat as its template writes it."""
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "Give either a prompt or messages.", "prompt")
    service = service_of(request)
    served = service.models.find(body.model or "")
    ask = Ask(
        model=served.name,
        prompt=body.prompt,
        messages=None if body.messages is None else [each.plain() for each in body.messages],
        params=SamplingParams(),
        request_id=request.state.request_id,
        template_options=body.template_options(),
        add_special_tokens=body.add_special_tokens is not False,
    )
    tokens, _ = await service.encode(served, ask)
    names = None
    if body.return_token_strs:
        names = served.engine.tokenizer.hf.convert_ids_to_tokens(tokens)
    return Json(Tokens(len(tokens), served.engine.card.max_model_len, tokens, names))


@router.post("/detokenize", responses=answers(Text, READS))
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """The text of tokens."""
    served = service_of(request).models.find(body.model or "")
    vocab = served.engine.card.vocab
    wrong = [token for token in body.tokens if token >= vocab]
    if wrong:
        raise ApiError(400, f"tokens has {wrong[0]}, and ids go up to {vocab - 1}.", "tokens")
    text = served.engine.tokenizer.decode(body.tokens, skip_special_tokens=False)
    return Json(Text(text))
