"""What OpenAI's clients send, with vLLM's extra fields.

Requests are strict: a field that is unknown, or not there yet, is refused by name, and `true` is no
number.  OpenAI's fields that mean nothing here are accepted, because its clients send them.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from jpaged.sampling_params import MOST_SAMPLES
from jpaged.server import limits
from jpaged.server.errors import ApiError
from jpaged.server.sentences import sentence

Whole = Annotated[int, Field(ge=-limits.MAX_WHOLE - 1, le=limits.MAX_WHOLE)]
Count = Annotated[int, Field(ge=0, le=limits.MAX_WHOLE)]
Number = Annotated[float, Field(allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0, le=limits.MAX_WHOLE)]
TokenIds = Annotated[list[TokenId], Field(max_length=limits.MAX_TOKEN_IDS)]
StopText = Annotated[str, Field(min_length=1, max_length=limits.MAX_STOP_CHARS)]
StopTexts = Annotated[list[StopText], Field(max_length=limits.MAX_STOPS)]
RequestId = Annotated[str, Field(pattern=limits.REQUEST_ID_PATTERN)]
ModelName = Annotated[str, Field(max_length=512)]
ShortText = Annotated[str, Field(max_length=1024)]
Stops = Annotated[
    StopText | StopTexts,
    sentence(
        f"must be a text or a list of at most {limits.MAX_STOPS} texts, each of 1 to "
        f"{limits.MAX_STOP_CHARS} characters"
    ),
]
Prompts = Annotated[
    str
    | Annotated[list[TokenId], Field(min_length=1)]
    | Annotated[list[str], Field(min_length=1, max_length=limits.MAX_PROMPTS)]
    | Annotated[list[list[TokenId]], Field(min_length=1, max_length=limits.MAX_PROMPTS)],
    sentence(
        "must be a text, a list of texts, a list of token ids, or a list of such lists; none is "
        f"empty, and at most {limits.MAX_PROMPTS} prompts go together"
    ),
]
TemplateWord = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Scalar = bool | int | float | str | None
# names that a template has from the renderer, which no client's word may hide
RENDERERS = frozenset(
    "messages tools documents conversation conversations chat_template tokenize self "
    "add_generation_prompt continue_final_message return_assistant_tokens_mask "
    "range dict lipsum cycler joiner namespace raise_exception strftime_now".split()
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Strict):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False
    include_obfuscation: bool | None = None


class Sampling(Strict):
    """What completions and chats have in common."""

    model: ModelName | None = None
    n: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = 1
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    seed: Whole | None = None
    stop: Stops | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logit_bias: Annotated[dict[str, Number], Field(max_length=300)] | None = None
    user: ShortText | None = None

    # vLLM's
    top_k: Whole | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    use_beam_search: bool = Field(default=False, description="`n` is the width.")
    length_penalty: Number = Field(default=1.0, description="Of a beam search.")
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: Count = 0
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=limits.MAX_WHOLE)] | None = None
    prompt_logprobs: Count | None = None
    allowed_token_ids: list[TokenId] | None = None
    bad_words: Annotated[list[ShortText], Field(max_length=limits.MAX_BAD_WORDS)] | None = None
    priority: Whole = 0
    request_id: RequestId | None = None
    session_id: ShortText | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    timeout: Annotated[float, Field(gt=0, le=limits.MAX_DEADLINE, allow_inf_nan=False)] | None = (
        Field(default=None, description="Seconds after which the request is given up (ours).")
    )

    # named, so that the refusal can say more than "unknown"
    response_format: Any = None
    structured_outputs: Any = None
    chat_template: Any = None

    # OpenAI's, without effect here
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: ShortText | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None
    prompt_cache_retention: ShortText | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def refuse_what_is_missing(self) -> None:
        """Raises `ApiError` for what is understood and not there yet."""
        kind = self.response_format
        if kind is not None and kind != {"type": "text"}:
            raise ApiError(
                400, "response_format is not there yet; only text is written.", "response_format"
            )
        for name, value, why in (
            ("structured_outputs", self.structured_outputs, "is not there yet."),
            ("chat_template", self.chat_template, "is the server's to choose (--chat-template)."),
        ):
            if value is not None:
                raise ApiError(400, f"{name} {why}", name)
        if self.length_penalty != 1 and not self.use_beam_search:
            raise ApiError(400, "length_penalty is for use_beam_search=true.", "length_penalty")
        if self.stream_options is not None and not self.stream:
            raise ApiError(
                400, "stream_options may only be set together with stream=true.", "stream_options"
            )
        if not self.spaces_between_special_tokens and not self.skip_special_tokens:
            raise ApiError(
                400,
                "spaces_between_special_tokens=false is not there yet.",
                "spaces_between_special_tokens",
            )


class CompletionRequest(Sampling):
    prompt: Prompts
    echo: bool | None = False
    logprobs: Count | None = None
    max_tokens: Annotated[int, Field(ge=0, le=limits.MAX_WHOLE)] | None = 16
    suffix: str | None = None
    add_special_tokens: bool = True

    def refuse_what_is_missing(self) -> None:
        super().refuse_what_is_missing()
        if self.suffix:
            raise ApiError(400, "suffix is not supported.", "suffix")
        if self.max_tokens == 0 and not self.echo:
            raise ApiError(400, "max_tokens must be at least 1 (0 only with echo).", "max_tokens")


class TextPart(Strict):
    type: Literal["text", "input_text"]
    text: str


def _refuse_images(content: Any) -> Any:
    parts = content if isinstance(content, list) else ()
    if any(isinstance(part, dict) and "image" in str(part.get("type")) for part in parts):
        raise PydanticCustomError("images", "images are not there yet.")
    return content


Content = Annotated[
    str | list[TextPart],
    sentence("must be a text, or a list of parts of type text, each with its text"),
    BeforeValidator(_refuse_images),
]


class Message(BaseModel):
    """One message of a chat.  Templates decide what they know of a role and its other fields."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: Content | None = None
    name: ShortText | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: None = None
    function_call: None = None
    tool_call_id: ShortText | None = None
    tool_calls: list[Any] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of {self.role!r} needs content")
        return self

    def plain(self) -> dict[str, Any]:
        """As templates know it: the parts of a text are one text."""
        parts = self.content
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts or ())
        known = {"role": self.role, "content": text, "name": self.name}
        known |= {"reasoning_content": self.reasoning_content or self.reasoning}
        known |= {"tool_calls": self.tool_calls or None, "tool_call_id": self.tool_call_id}
        return {name: value for name, value in known.items() if value is not None}


class Chat(Strict):
    """What is rendered by a template."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=limits.MAX_MESSAGES)]
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: (
        Annotated[dict[TemplateWord, Scalar | list[Scalar]], Field(max_length=64)] | None
    ) = Field(default=None, description="What the template is told beside the messages.")
    reasoning_effort: ShortText | None = None

    def template_options(self) -> dict[str, Any]:
        """Raises `ApiError` for what a client may not tell a template."""
        given = dict(self.chat_template_kwargs or {})
        taken = sorted(set(given) & RENDERERS)
        if taken:
            raise ApiError(
                400,
                f"chat_template_kwargs has {taken[0]!r}, which is not the client's to say.",
                "chat_template_kwargs",
            )
        if self.add_generation_prompt and self.continue_final_message:
            raise ApiError(
                400,
                "add_generation_prompt and continue_final_message exclude each other.",
                "continue_final_message",
            )
        if self.reasoning_effort is not None:
            given.setdefault("reasoning_effort", self.reasoning_effort)
        return {
            **given,
            "add_generation_prompt": self.add_generation_prompt,
            "continue_final_message": self.continue_final_message,
        }


class ChatCompletionRequest(Sampling, Chat):
    logprobs: bool | None = False
    top_logprobs: Count | None = None
    max_tokens: Annotated[int, Field(ge=1, le=limits.MAX_WHOLE)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=limits.MAX_WHOLE)] | None = None
    echo: bool = False
    add_special_tokens: bool = False
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[Literal["text"]] | None = None
    parallel_tool_calls: bool | None = None

    def refuse_what_is_missing(self) -> None:
        super().refuse_what_is_missing()
        if self.tool_choice not in (None, "none") or (self.tools and self.tool_choice is None):
            raise ApiError(400, "tools are not there yet; only tool_choice none.", "tool_choice")
        if self.functions or self.function_call not in (None, "none"):
            raise ApiError(400, "functions are not there yet.", "functions")
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs=true.", "top_logprobs")
