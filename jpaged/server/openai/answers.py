"""What OpenAI's clients read.  Structs that msgspec writes: chunks are made for every token.

A field that is UNSET is left out: chunks are short, whole answers name what they lack.
"""

import time

import msgspec
from msgspec import UNSET, UnsetType

from jpaged import __version__
from jpaged.engine.outputs import RequestOutput

FINGERPRINT = f"jpaged-{__version__}"  # in whole answers, and where a stream's choice ends
Logprobs = dict[str, float]


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int


class Usage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: None = None


class PromptLogprob(msgspec.Struct):
    logprob: float
    rank: int | None
    decoded_token: str | None


PromptLogprobs = list[dict[str, PromptLogprob] | None]


class CompletionLogprobs(msgspec.Struct):
    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[Logprobs | None] | None


class CompletionChoice(msgspec.Struct):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None | UnsetType = UNSET
    prompt_token_ids: list[int] | None | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | None | UnsetType = UNSET


class CompletionChunk(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType = UNSET
    object: str = "text_completion"
    system_fingerprint: str | UnsetType = UNSET


class Completion(CompletionChunk):
    system_fingerprint: str | UnsetType = FINGERPRINT
    service_tier: None = None


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    content: list[TokenLogprob]


class ChatMessage(msgspec.Struct):
    content: str
    role: str = "assistant"
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    reasoning: None = None


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None


class ChatCompletion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    object: str = "chat.completion"
    system_fingerprint: str = FINGERPRINT
    service_tier: None = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class Delta(msgspec.Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET


class ChatChunk(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: str = "chat.completion.chunk"
    system_fingerprint: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


class ModelPermission(msgspec.Struct):
    id: str
    created: int
    object: str = "model_permission"
    allow_create_engine: bool = False
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    organization: str = "*"
    group: str | None = None
    is_blocking: bool = False


class ModelInfo(msgspec.Struct):
    id: str
    created: int
    root: str
    max_model_len: int
    permission: list[ModelPermission]
    object: str = "model"
    owned_by: str = "jpaged"
    parent: str | None = None


class ModelList(msgspec.Struct):
    data: list[ModelInfo]
    object: str = "list"


class Tokens(msgspec.Struct):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Text(msgspec.Struct):
    prompt: str


class Tally:
    """Counts what a request's outputs used, of one prompt or of several."""

    def __init__(self) -> None:
        self._prompts: dict[int, tuple[int, int]] = {}  # tokens, cached ones
        self._num_generated = 0

    def add(self, at: int, output: RequestOutput, is_said: bool = True) -> None:
        """is_said: its tokens are shown (a prompt that is only echoed says none)."""
        self._prompts[at] = (len(output.prompt_token_ids), output.num_cached_tokens)
        if is_said:
            for sample in output.outputs:
                self._num_generated += len(sample.token_ids)

    def usage(self) -> Usage:
        prompt = sum(count for count, _ in self._prompts.values())
        cached = sum(count for _, count in self._prompts.values())
        said = self._num_generated
        return Usage(prompt, prompt + said, said, PromptTokensDetails(cached))


def now() -> int:
    return int(time.time())


def prompt_logprobs(output: RequestOutput) -> PromptLogprobs | None:
    if output.prompt_logprobs is None:
        return None
    return [
        None
        if position is None
        else {
            str(token): PromptLogprob(finite(each.logprob), each.rank, each.decoded_token)
            for token, each in position.items()
        }
        for position in output.prompt_logprobs
    ]


def finite(logprob: float) -> float:
    """JSON has no minus infinity."""
    return max(logprob, -9999.0)
