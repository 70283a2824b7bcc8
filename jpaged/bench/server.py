"""A server under load: what it is asked, and how its streams are read."""

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jpaged.bench.calls import Answer
from jpaged.bench.connection import Pool
from jpaged.errors import ConfigError

# words that any tokenizer makes ordinary tokens of: prompts are drawn from these
WORDS = """time year people way day man thing woman life child world school state family student
group country problem hand part place case week company system program question work government
number night point home water room mother area money story fact month lot right study book eye job
word business issue side kind head house service friend father power hour game line end member law
car city community name president team minute idea kid body information back parent face others
level office door health person art war history party result change morning reason research girl
guy moment air teacher force education foot boy age policy music market sense nation plan college
interest death experience effect use class control field development role effort rate heart drug
show leader light voice wife police mind price report decision son view relationship town road"""


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    text: str = ""
    delta: Delta | None = None
    token_ids: list[int] | None = None


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class Failure(msgspec.Struct):
    message: str = ""


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: Failure | None = None


class ModelName(msgspec.Struct):
    id: str


class ModelNames(msgspec.Struct):
    data: list[ModelName]


class Tokens(msgspec.Struct):
    tokens: list[int]


class Text(msgspec.Struct):
    prompt: str


read_chunk = msgspec.json.Decoder(Chunk).decode


class Stream:
    """Server-sent events into an answer."""

    def __init__(self, answer: Answer, with_tokens: bool):
        self.answer, self.with_tokens = answer, with_tokens
        self.is_done = False
        self.rest = b""

    def feed(self, data: bytes, now: float) -> None:
        *events, self.rest = (self.rest + data).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                self._read(event[6:], now)

    def _read(self, data: bytes, now: float) -> None:
        if data.startswith(b"[DONE]"):
            self.is_done = True
            return
        chunk = read_chunk(data)
        if chunk.error is not None:
            self.answer.error = chunk.error.message or "the stream failed"
        if chunk.usage is not None:
            self.answer.num_prompt = chunk.usage.prompt_tokens
            self.answer.num_output = chunk.usage.completion_tokens or 0
        if any(choice.text or choice.token_ids or _content(choice) for choice in chunk.choices):
            self.answer.chunks.append(now)
            if self.with_tokens:
                self.answer.token_ids += chunk.choices[0].token_ids or ()


def _content(choice: Choice) -> str | None:
    return choice.delta.content if choice.delta is not None else None


@dataclass
class Server:
    """options: fields of every request."""

    pool: Pool
    endpoint: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        return "chat" in self.endpoint

    async def generate(self, prompt: str | list[int], num_output: int, due: float) -> Answer:
        """Asks, and measures.  Whatever goes wrong is the answer's error."""
        answer = Answer(due)
        with_tokens = bool(self.options.get("return_token_ids"))
        stream, body = Stream(answer, with_tokens), self._body(prompt, num_output)
        answer.begin = time.perf_counter()
        try:
            status = await self.pool.ask("POST", self.endpoint, body, stream.feed)
            if status != 200:
                answer.error = _error_of(status, stream.rest)
            elif not stream.is_done and not answer.error:
                answer.error = "the stream ended without [DONE]"
            elif not answer.chunks and not answer.error:
                answer.error = "the answer is empty"
        except OSError as error:
            answer.error = str(error) or type(error).__name__
        answer.end = time.perf_counter()
        answer.num_output = answer.num_output or len(answer.chunks)
        return answer

    def _body(self, prompt: str | list[int], num_output: int) -> bytes:
        asked: dict[str, Any] = {"model": self.model, "max_tokens": num_output, **self.options}
        if self.is_chat:
            asked["messages"] = [{"role": "user", "content": prompt}]
        else:
            asked["prompt"] = prompt
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(asked)

    async def first_model(self) -> str:
        return (await self._call("GET", "/v1/models", None, ModelNames)).data[0].id

    async def tokenize(self, text: str) -> list[int]:
        asked = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return (await self._call("POST", "/tokenize", asked, Tokens)).tokens

    async def detokenize(self, tokens: list[int]) -> str:
        asked = {"model": self.model, "tokens": tokens}
        return (await self._call("POST", "/detokenize", asked, Text)).prompt

    async def vocabulary(self) -> list[int]:
        """Some ordinary tokens of the model, always the same."""
        return sorted(set(await self.tokenize(" ".join(WORDS.split()))))

    async def _call[T](self, method: str, path: str, asked: object, kind: type[T]) -> T:
        """Raises `ConfigError`: nothing has been measured yet, so there is time to mend it."""
        body = b"" if asked is None else msgspec.json.encode(asked)
        try:
            status, answer = await self.pool.whole(method, path, body)
        except OSError as error:
            raise ConfigError(f"{self.pool.url}: {error}") from error
        if status != 200:
            raise ConfigError(f"{self.pool.url}{path}: {_error_of(status, answer)}")
        return msgspec.json.decode(answer, type=kind)


def _error_of(status: int, body: bytes) -> str:
    try:
        failure = read_chunk(body).error
    except msgspec.MsgspecError:
        failure = None
    return f"{status}: {failure.message if failure else body[:200].decode(errors='replace')}"
