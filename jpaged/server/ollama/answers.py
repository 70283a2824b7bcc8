"""What Ollama's clients read.  A field that is UNSET is left out."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from jpaged.engine.outputs import CompletionOutput, RequestOutput
from jpaged.server.openai.answers import TokenLogprob

NANOSECONDS = 1_000_000_000
NEVER = "9999-12-31T23:59:59Z"


class Counts(msgspec.Struct, kw_only=True):
    """What both kinds of chunk have; counts and durations (nanoseconds) are in the last one."""

    model: str
    created_at: str
    done: bool = False
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET

    def finish(self, output: RequestOutput, sample: CompletionOutput, seconds: float) -> None:
        """Says that it is over.  The model was loaded before: what it waited is in the total."""
        stats = output.metrics
        assert stats is not None and sample.finish_reason is not None
        begun = stats.scheduled_ts or stats.queued_ts
        first, last = stats.first_token_ts or begun, stats.last_token_ts or begun
        self.done, self.done_reason = True, sample.finish_reason
        self.total_duration, self.load_duration = int(seconds * NANOSECONDS), 0
        self.prompt_eval_count = len(output.prompt_token_ids)
        self.prompt_eval_duration = int((first - begun) * NANOSECONDS)
        self.eval_count = stats.num_generation_tokens
        # clients divide by it
        self.eval_duration = max(1, int((last - first) * NANOSECONDS))


class GenerateChunk(Counts, kw_only=True):
    response: str = ""


class ChatMessage(msgspec.Struct):
    content: str
    role: str = "assistant"


class ChatChunk(Counts, kw_only=True):
    message: ChatMessage


class Details(msgspec.Struct):
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str
    parent_model: str = ""
    format: str = "safetensors"


class Listed(msgspec.Struct):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Running(msgspec.Struct):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    size_vram: int
    context_length: int
    expires_at: str = NEVER


class Tags(msgspec.Struct):
    models: list[Listed]


class RunningList(msgspec.Struct):
    models: list[Running]


class Shown(msgspec.Struct):
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class Version(msgspec.Struct):
    version: str


def timestamp(seconds: float | None = None) -> str:
    """Now, or seconds since 1970."""
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
