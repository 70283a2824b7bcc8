"""Prompts to tokens, without holding up everybody else's streams."""

import asyncio
from collections.abc import Sequence

from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestRejected
from jpaged.server.ask import Ask
from jpaged.server.models import Served

CHARS_AT_ONCE = 4096  # longer texts are encoded in a thread: about a millisecond


async def encode_prompt(
    served: Served, prompt: str | Sequence[int], ask: Ask
) -> tuple[list[int], str | None]:
    """The tokens, and the text if it came as text.  Raises `RequestRejected`."""
    if not isinstance(prompt, str):
        return truncated(list(prompt), ask, served.engine.card.max_model_len), None
    adds_special = ask.add_special_tokens and ask.messages is None
    _refuse_hopeless(prompt, ask, served)
    tokens = await encode_text(served.engine.tokenizer, prompt, adds_special)
    return truncated(tokens, ask, served.engine.card.max_model_len), prompt


async def encode_text(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    if len(text) <= CHARS_AT_ONCE:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return await asyncio.to_thread(tokenizer.encode, text, add_special_tokens=add_special_tokens)


def truncated(tokens: list[int], ask: Ask, max_model_len: int) -> list[int]:
    keep = ask.truncate_prompt_tokens
    if keep is None:
        return tokens
    if keep > max_model_len:
        raise RequestRejected(
            f"truncate_prompt_tokens={keep} is over the model's {max_model_len} tokens"
        )
    return tokens[-(max_model_len - 1 if keep == -1 else keep) :]


def _refuse_hopeless(text: str, ask: Ask, served: Served) -> None:
    """Spares the work for a text that cannot fit: no token is longer than the longest."""
    if ask.truncate_prompt_tokens is not None or len(text) < CHARS_AT_ONCE:
        return
    longest, room = served.longest_token, served.engine.card.max_model_len
    if len(text) > longest * room:
        raise RequestRejected(
            f"the prompt has {len(text)} characters, this engine holds {room} tokens of at most "
            f"{longest} characters with the output (max_model_len); shorten it"
        )
