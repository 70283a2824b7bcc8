"""What a server and its engine process say to each other: msgpack, each message behind its length.

    server   Start                     Add, Abort, Call, Ping …          Close
    engine          Log … Hello                   News, Answer, Pong …          or Died
                        or Unable

Never pickle: what is decoded is one of these, or an error.  Prompts travel once, with `Add`.
"""

import struct
from typing import Any

import msgspec

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.client import ModelCard, StepNews
from jpaged.engine.outputs import (
    CompletionOutput,
    PositionLogprobs,
    RequestOutput,
    RequestStateStats,
)
from jpaged.engine.stats import EngineStats
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.report import PageReport
from jpaged.scheduling.request import Request

LENGTH = struct.Struct("<I")  # before each message


class Message(msgspec.Struct, array_like=True, tag=True):
    """One word of the conversation."""


class Start(Message):
    """parent: the server's process.  dies_with_thread: the thread that began this one lives as long
    as its process."""

    options: dict[str, Any]
    log_level: int
    parent: int
    dies_with_thread: bool


class Add(Message):
    request: Request
    prompt_text: str | None
    search: BeamSearchParams | None = None


class Abort(Message):
    request_ids: list[str]


class Call(Message):
    """Something to do between two steps, that has an answer."""

    serial: int
    name: str
    argument: str = ""


class Ping(Message):
    pass


class Close(Message):
    pass


class Hello(Message):
    """The engine is ready."""

    card: ModelCard
    stats: EngineStats


class Unable(Message):
    """The engine could not be made; kind: the error's class."""

    kind: str
    reason: str


class Log(Message):
    name: str
    level: int
    text: str


class Answer(Message):
    """report: of `page_report`.  kind, reason: of an error."""

    serial: int
    report: PageReport | None = None
    kind: str = ""
    reason: str = ""


class Pong(Message):
    """busy: for how many seconds the step under way has been running, what it compiles apart."""

    busy: float


class Died(Message):
    reason: str


class Delta(msgspec.Struct, array_like=True):
    """A `RequestOutput` without what the server knows: the prompt."""

    request_id: str
    outputs: list[CompletionOutput]
    finished: bool
    prompt_logprobs: list[PositionLogprobs | None] | None
    metrics: RequestStateStats | None
    num_cached_tokens: int

    @classmethod
    def of(cls, output: RequestOutput) -> "Delta":
        return cls(
            output.request_id,
            output.outputs,
            output.finished,
            output.prompt_logprobs,
            output.metrics,
            output.num_cached_tokens,
        )

    def output(self, prompt: str | None, prompt_token_ids: list[int]) -> RequestOutput:
        return RequestOutput(
            self.request_id,
            prompt,
            prompt_token_ids,
            self.outputs,
            self.finished,
            self.prompt_logprobs,
            self.metrics,
            self.num_cached_tokens,
        )


class News(Message):
    """A `StepNews`."""

    deltas: list[Delta]
    failed: dict[str, str]
    stats: EngineStats
    steps: list[StepRecord]
    ended: list[RequestRecord]
    refused: dict[str, str]
    aborted: list[str]

    @classmethod
    def of(cls, news: StepNews) -> "News":
        return cls(
            [Delta.of(output) for output in news.outputs],
            news.failed,
            news.stats,
            news.steps,
            news.ended,
            news.refused,
            news.aborted,
        )


ToEngine = Start | Add | Abort | Call | Ping | Close
ToServer = Hello | Unable | Log | News | Answer | Pong | Died
_encoder = msgspec.msgpack.Encoder()
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_to_server = msgspec.msgpack.Decoder(ToServer).decode


def encode(message: ToEngine | ToServer) -> bytes:
    """Raises `OverflowError` for whole numbers of more than 64 bits, and `TypeError`."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
