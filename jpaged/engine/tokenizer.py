"""Text to tokens and back, with the checkpoint's own tokenizer."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from jpaged.errors import RequestRejected, UnsupportedModel
from jpaged.weights.folder import read_json

# transformers would warn that PyTorch is missing, which is as it should be
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
import transformers  # noqa: E402

# classes that take a tokenizer.json as it stands: loading one by name spares what AutoTokenizer
# does to find it, which imports PyTorch where that is installed (four seconds)
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")

CONTEXT = 8  # prompt tokens a stream is primed with, so that its first word keeps its space
BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character


class Tokenizer:
    """A Hugging Face fast tokenizer.  `hf` is the object itself, for everything else it can do."""

    def __init__(self, hf: Any):
        self.hf = hf
        self.backend = hf.backend_tokenizer
        self._texts: tuple[dict[int, str], ...] = ({}, {})  # with special tokens, without

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Raises `UnsupportedModel` where there is none, or only a slow one."""
        try:
            hf = _class_for(folder).from_pretrained(str(folder), trust_remote_code=False)
        except (
            *(OSError, ValueError, KeyError, ImportError, TypeError, AttributeError),
            RecursionError,  # JSON that is nested without end
        ) as error:
            raise UnsupportedModel(
                f"no tokenizer could be loaded from {folder} ({str(error).splitlines()[0]}); "
                "name another with tokenizer=…, or pass skip_tokenizer_init=True and token ids"
            ) from error
        if len(hf) < 2:  # without files transformers makes an empty one
            raise UnsupportedModel(
                f"{folder} holds no tokenizer; name another with tokenizer=…, or pass "
                "skip_tokenizer_init=True and token ids"
            )
        if not getattr(hf, "is_fast", False):
            raise UnsupportedModel(
                f"{type(hf).__name__} in {folder} is a slow tokenizer; save it once as a "
                "tokenizer.json (AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained)"
            )
        return cls(hf)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return self.hf(text, add_special_tokens=add_special_tokens)["input_ids"]

    def text_of(self, token: int, skip_special_tokens: bool = True) -> str:
        """Of a token alone.  Kept: texts are read token by token."""
        texts = self._texts[skip_special_tokens]
        if token not in texts:
            texts[token] = self.decode([token], skip_special_tokens=skip_special_tokens)
        return texts[token]

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self.backend.decode(list(tokens), skip_special_tokens=skip_special_tokens)

    def render_chat(self, messages: Sequence[Mapping], **options: Any) -> str:
        """The chat as one text, by the checkpoint's template.  Raises `RequestRejected`."""
        if options.get("chat_template") is None and not self.hf.chat_template:
            raise RequestRejected(
                "this tokenizer has no chat template; pass chat_template=… or use generate()"
            )
        is_list = isinstance(messages, Sequence) and bool(messages)
        if not is_list or not all(map(_is_message, messages)):
            raise RequestRejected(
                'a conversation is a list of messages like {"role": "user", "content": "Hi"}, '
                f"not {messages!r}"
            )
        try:
            return self.hf.apply_chat_template(list(messages), tokenize=False, **options)
        except (ValueError, TypeError, TemplateError) as error:
            raise RequestRejected(f"the chat template refused the messages: {error}") from error

    def spellings(self, word: str) -> set[tuple[int, ...]]:
        """The token sequences that write a word at the start of a text and within one."""
        texts = (word, " " + word.lstrip())
        return {tuple(self.encode(text, add_special_tokens=False)) for text in texts}


def _class_for(folder: str | Path) -> Any:
    name = read_json(Path(folder), "tokenizer_config.json").get("tokenizer_class")
    return transformers.PreTrainedTokenizerFast if name in GENERIC else transformers.AutoTokenizer


def _is_message(message: object) -> bool:
    return isinstance(message, Mapping) and "role" in message


class TextStream:
    """Decodes one sequence as it grows; holds back bytes that are not yet a whole character.

        tokens    c c c c | t t | t
                   shown    pending

    Pending tokens are decoded behind the shown ones, because a token's text may depend on what
    precedes it: many tokenizers drop the space of the first word.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], skip_special_tokens: bool):
        self._tokenizer, self._skip_special = tokenizer, skip_special_tokens
        self._shown, self._pending = list(prompt[-CONTEXT:]), []
        self._shown_text = self._decode(self._shown)
        if self._shown_text.endswith(BROKEN):  # a character that the output may complete
            self._shown, self._shown_text = [], ""

    def push(self, token: int) -> str:
        """The text that a token adds, "" while it ends within a character."""
        self._pending = pending = [*self._pending, token]  # a copy of the stream has the old list
        new = self.flush()
        if not new or new[-1] == BROKEN:
            return ""
        self._shown, self._pending = pending, []
        is_one = len(pending) == 1
        self._shown_text = (
            self._tokenizer.text_of(token, self._skip_special)
            if is_one
            else (self._decode(pending))
        )
        return new

    def flush(self) -> str:
        """What is still held back."""
        return self._decode(self._shown + self._pending)[len(self._shown_text) :]

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.backend.decode(tokens, skip_special_tokens=self._skip_special)
