"""What Ollama's clients send.

What it does to a machine (threads, memory maps, how long a model stays loaded) means nothing here
and is accepted; what would change the text and is not there is refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from jpaged.sampling_params import SamplingParams
from jpaged.server import limits
from jpaged.server.asking import sampling
from jpaged.server.errors import ApiError
from jpaged.server.models import Served
from jpaged.server.openai.protocol import (
    ModelName,
    Number,
    ShortText,
    Stops,
    Strict,
    TokenIds,
    Whole,
)
from jpaged.server.sentences import sentence

# a literal would be `true`, too
One = Annotated[float, Field(ge=1, le=1), sentence("is not there; only 1, which means nothing")]
Off = Annotated[int, Field(ge=0, le=0), sentence("is not there; only 0, which means off")]
WholeText = Annotated[Literal[-1], sentence("is not there; only -1, the whole text")]
KeepAlive = Annotated[float | ShortText, sentence("must be seconds, or a text such as 5m")]
GOES_ON = (-1, -2)  # num_predict: without end, and until the context is full


class Options(Strict):
    temperature: Number | None = None
    top_k: Whole | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    seed: Whole | None = None
    stop: Stops | None = None
    num_predict: Annotated[int, Field(ge=-2, le=limits.MAX_WHOLE)] | None = None
    repeat_penalty: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    num_ctx: Annotated[int, Field(ge=1, le=limits.MAX_WHOLE)] | None = None

    # named, so that the refusal can say why; with the values that mean what happens anyway
    repeat_last_n: WholeText | None = Field(
        default=None, description="Penalties count the whole text: only -1 is possible."
    )
    tfs_z: One | None = None
    typical_p: One | None = None
    mirostat: Off | None = None
    mirostat_eta: Number | None = Field(default=None, description="Of mirostat, which is off.")
    mirostat_tau: Number | None = Field(default=None, description="Of mirostat, which is off.")

    # the machine's, without effect here
    numa: bool | None = None
    num_batch: Whole | None = None
    num_gpu: Whole | None = None
    main_gpu: Whole | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    num_thread: Whole | None = None

    def sampling(self, served: Served, logprobs: int | None) -> SamplingParams:
        """Raises `RequestRejected`, and `ApiError` for a context that is not there."""
        if self.num_predict == 0:
            raise ApiError(400, "num_predict must be at least 1, or -1 for no end.", "options")
        room = served.engine.card.max_model_len
        if self.num_ctx is not None and self.num_ctx > room:
            raise ApiError(400, f"num_ctx={self.num_ctx} is over the model's {room} tokens.")
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repeat_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "stop": self.stop,
            "seed": None if self.seed == -1 else self.seed,
            "logprobs": logprobs,
        }
        params = dict(served.defaults)
        if self.num_predict in GOES_ON:
            params["max_tokens"] = None
        else:
            given["max_tokens"] = self.num_predict
        return sampling(params, **given)


class Generating(Strict):
    """What prompts and chats have in common."""

    model: Annotated[ModelName, Field(min_length=1)]
    stream: bool | None = True
    options: Options | None = None
    keep_alive: KeepAlive | None = Field(
        default=None, description="Models stay until they are unloaded, whatever this says."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=limits.MAX_WHOLE)] | None = None
    think: bool | ShortText | None = None
    format: Any = None

    def refuse_what_is_missing(self) -> None:
        """Raises `ApiError` for what is understood and not there yet."""
        refuse("format", self.format, "is not there yet; only text is written")
        refuse("think", self.think, "is not there yet; thoughts come as part of the text")
        if self.top_logprobs and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs=true.")

    def sampling(self, served: Served) -> SamplingParams:
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return (self.options or Options()).sampling(served, logprobs)

    def template_options(self) -> dict[str, Any]:
        thinks = {} if self.think is None else {"enable_thinking": False}
        return {"add_generation_prompt": True, **thinks}

    @property
    def is_farewell(self) -> bool:
        """Whether it asks, where it asks for no text, that the model be unloaded."""
        return self.keep_alive in (0, "0", "0s")


class GenerateRequest(Generating):
    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: TokenIds | None = None
    images: list[Any] | None = None

    def refuse_what_is_missing(self) -> None:
        super().refuse_what_is_missing()
        refuse("images", self.images, "are not there yet")
        refuse("suffix", self.suffix, "is not supported")
        refuse("template", self.template, "is the server's to choose (--chat-template)")
        refuse("context", self.context, "is not supported; send the messages to /api/chat")
        if self.raw and self.system:
            raise ApiError(400, "raw and system exclude each other.")


class Message(Strict):
    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str = ""
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[Any] | None = None
    tool_name: ShortText | None = None

    def plain(self) -> dict[str, str]:
        """As templates know it."""
        refuse("images", self.images, "are not there yet")
        refuse("tool_calls", self.tool_calls, "are not there yet")
        thought = {} if self.thinking is None else {"reasoning_content": self.thinking}
        return {"role": self.role, "content": self.content, **thought}


class ChatRequest(Generating):
    messages: Annotated[list[Message], Field(max_length=limits.MAX_MESSAGES)] = []
    tools: list[Any] | None = None

    def refuse_what_is_missing(self) -> None:
        super().refuse_what_is_missing()
        refuse("tools", self.tools, "are not there yet")

    def template_options(self) -> dict[str, Any]:
        """A last message that is the model's own is gone on with."""
        last = self.messages[-1]
        goes_on = last.role == "assistant" and bool(last.content)
        ends = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on}
        return {**super().template_options(), **ends}


class ShowRequest(Strict):
    model: ModelName | None = None
    name: ModelName | None = None  # as it was called before
    verbose: bool | None = None


def refuse(name: str, value: Any, why: str) -> None:
    """Raises `ApiError`, unless nothing is meant by the value."""
    if value:
        raise ApiError(400, f"{name} {why}.", name)
