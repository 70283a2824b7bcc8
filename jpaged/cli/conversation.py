"""What is said in a chat with a server, and how it is asked for more."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from jpaged.cli.client import Client, ServerError
from jpaged.errors import ConfigError

SETTINGS: dict[str, type] = {
    "system": str,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "max_tokens": int,
    "seed": int,
    "presence_penalty": float,
    "frequency_penalty": float,
    "repetition_penalty": float,
    "stop": str,
}
NO_TEMPLATE = "has no chat template"  # what the server says of a model that only goes on with texts
ENOUGH = 256  # tokens of a text that nobody asked to end


@dataclass
class Conversation:
    """options: fields of a request.  is_chat: False once the model turned out to be no chatter."""

    client: Client
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)
    is_chat: bool = True

    def ask(self, text: str) -> Generator[str, None, None]:
        """The answer, piece by piece.  What was read of it counts as said; nothing of a question
        that is refused does.  Raises `ServerError`."""
        said = ""
        try:
            for piece in self._answer(text):
                said += piece
                yield piece
        finally:
            if said and self.is_chat:
                self.messages += [
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": said.strip()},
                ]

    def _answer(self, text: str) -> Iterator[str]:
        if self.is_chat:
            try:
                yield from self._chat(text)
                return
            except ServerError as error:
                if NO_TEMPLATE not in str(error):
                    raise
            self.is_chat = False
        yield from self._go_on(text)

    def _chat(self, text: str) -> Iterator[str]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, *self.messages, {"role": "user", "content": text}]
        body = {**self.options, "model": self.model, "messages": messages}
        for event in self.client.events("/v1/chat/completions", body):
            for choice in event["choices"]:
                if piece := choice["delta"].get("content"):
                    yield piece

    def _go_on(self, text: str) -> Iterator[str]:
        body = {"max_tokens": ENOUGH, **self.options, "model": self.model, "prompt": text}
        for event in self.client.events("/v1/completions", body):
            for choice in event["choices"]:
                if choice["text"]:
                    yield choice["text"]

    def set(self, name: str, value: str) -> None:
        """Raises `ConfigError`."""
        kind = SETTINGS.get(name)
        if kind is None:
            raise ConfigError(f"there is no setting {name!r}; there are {', '.join(SETTINGS)}")
        try:
            found = kind(value)
        except ValueError as error:
            raise ConfigError(f"{name} must be a number, not {value!r}") from error
        if name == "system":
            self.system = value
        else:
            self.options[name] = found

    def clear(self) -> None:
        self.messages.clear()
