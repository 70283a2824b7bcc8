"""Log-probabilities as OpenAI writes them: for completions in columns, for chats in rows."""

from collections.abc import Sequence

from jpaged.engine.outputs import Logprob, PositionLogprobs
from jpaged.engine.tokenizer import Tokenizer
from jpaged.server.openai.answers import (
    ChatLogprobs,
    CompletionLogprobs,
    TokenLogprob,
    TopLogprob,
    finite,
)


class Spelling:
    """How a token is written: as its text, or as "token_id:17", which tells equal texts apart, and
    is all that there is without a tokenizer."""

    def __init__(self, tokenizer: Tokenizer | None, as_ids: bool = False):
        self.tokenizer, self.as_ids = tokenizer, as_ids

    def of(self, token: int, logprob: Logprob | None = None) -> str:
        if self.as_ids or self.tokenizer is None:
            return f"token_id:{token}"
        if logprob is not None and logprob.decoded_token is not None:
            return logprob.decoded_token
        return self.tokenizer.decode([token], skip_special_tokens=False)


def completion_logprobs(
    tokens: Sequence[int],
    positions: Sequence[PositionLogprobs | None],
    most: int,
    offset: int,
    spelling: Spelling,
) -> CompletionLogprobs:
    """offset: where the first token's text begins.  A position that is None is unknown."""
    columns = CompletionLogprobs([], [], [], [])
    for token, position in zip(tokens, positions, strict=True):
        chosen = position[token] if position else None
        text = spelling.of(token, chosen)
        columns.text_offset.append(offset)
        columns.tokens.append(text)
        columns.token_logprobs.append(finite(chosen.logprob) if chosen else None)
        assert columns.top_logprobs is not None
        columns.top_logprobs.append(_top(token, position, most, spelling) if position else None)
        offset += len(text)
    return columns


def _top(token: int, position: PositionLogprobs, most: int, spelling: Spelling) -> dict[str, float]:
    """The chosen one and the likeliest; of two with one text, the first."""
    found: dict[str, float] = {}
    for each, logprob in position.items():
        if each == token or (logprob.rank or 0) <= most:
            found.setdefault(spelling.of(each, logprob), finite(logprob.logprob))
    return found


def chat_logprobs(
    tokens: Sequence[int], positions: Sequence[PositionLogprobs], most: int, spelling: Spelling
) -> ChatLogprobs:
    """most: how many of the likeliest to tell for each."""
    rows = []
    for token, position in zip(tokens, positions, strict=True):
        chosen = position[token]
        text = spelling.of(token, chosen)
        rows.append(
            TokenLogprob(
                text, finite(chosen.logprob), _bytes(text), _ranked(position, most, spelling)
            )
        )
    return ChatLogprobs(rows)


def _ranked(position: PositionLogprobs, most: int, spelling: Spelling) -> list[TopLogprob]:
    ranked = sorted(position.items(), key=lambda each: each[1].rank or 0)
    texts = [
        (spelling.of(token, each), each)
        for token, each in ranked
        if each.rank is not None and each.rank <= most  # a beam search ranks sequences, no tokens
    ]
    return [TopLogprob(text, finite(each.logprob), _bytes(text)) for text, each in texts]


def _bytes(text: str) -> list[int]:
    return list(text.encode("utf-8", errors="replace"))
