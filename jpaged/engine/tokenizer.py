"""Text to tokens and back, with the checkpoint's own tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer

from jpaged.errors import RequestRejected, UnsupportedModel

CONTEXT = 8  # prompt tokens a stream is primed with, so that its first word keeps its space


class Tokenizer:
    """A Hugging Face fast tokenizer.  `hf` is the object itself, for everything else it can do."""

    def __init__(self, hf: Any):
        self.hf = hf
        self.backend = hf.backend_tokenizer

    @classmethod
    def load(cls, folder: str | Path, revision: str | None = None) -> "Tokenizer":
        """Raises `UnsupportedModel` where there is none, or only a slow one."""
        try:
            hf = AutoTokenizer.from_pretrained(
                str(folder), revision=revision, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
            raise UnsupportedModel(
                f"no tokenizer could be loaded from {folder} ({str(error).splitlines()[0]}); "
                "name another with tokenizer=…, or pass skip_tokenizer_init=True and token ids"
            ) from error
        if not getattr(hf, "is_fast", False):
            raise UnsupportedModel(
                f"{type(hf).__name__} in {folder} is a slow tokenizer; save it once as a "
                "tokenizer.json (AutoTokenizer.from_pretrained(…, use_fast=True).save_pretrained)"
            )
        return cls(hf)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return self.hf(text, add_special_tokens=add_special_tokens)["input_ids"]

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self.backend.decode(list(tokens), skip_special_tokens=skip_special_tokens)

    def render_chat(self, messages: list[dict], **options: Any) -> str:
        """The chat as one text, by the checkpoint's template.  Raises `RequestRejected`."""
        if options.get("chat_template") is None and not self.hf.chat_template:
            raise RequestRejected(
                "this tokenizer has no chat template; pass chat_template=… or use generate()"
            )
        return self.hf.apply_chat_template(messages, tokenize=False, **options)

    def spellings(self, word: str) -> set[tuple[int, ...]]:
        """The token sequences that write a word at the start of a text and within one."""
        texts = (word, " " + word.lstrip())
        return {tuple(self.encode(text, add_special_tokens=False)) for text in texts}


class TextStream:
    """Decodes one sequence as it grows; holds back bytes that are not yet a whole character."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], skip_special_tokens: bool):
        self._backend = tokenizer.backend
        self._stream = DecodeStream(
            ids=list(prompt[-CONTEXT:]), skip_special_tokens=skip_special_tokens
        )

    def push(self, token: int) -> str:
        return self._stream.step(self._backend, token) or ""
