"""Packed training windows: documents in a row, separated by the end-of-text token.

    document <|endoftext|> document <|endoftext|> document ...
    |--- window ---|           |--- window ---|

Half the windows begin with a document, as prompts do; the others begin anywhere, so that the
ends of long documents are seen too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from demo_corpus import Document, make_document
from tokenizers import Tokenizer

from demo_training.tokenizer import END_OF_TEXT, render

HELD_OUT_SEEDS = 1_000_000_000


@dataclass(frozen=True)
class PackedTokens:
    """All tokens in one row, and where each document starts."""

    tokens: np.ndarray
    starts: np.ndarray

    def windows(self, rng: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Draws `int32[count, length + 1]`: inputs and, one to the right, their targets."""
        last = len(self.tokens) - length - 1
        begins = rng.integers(0, last, count)
        from_document = rng.random(count) < 0.5
        nearest = self.starts[np.searchsorted(self.starts, begins, side="right") - 1]
        begins = np.where(from_document, nearest, begins)
        return self.tokens[begins[:, None] + np.arange(length + 1)].astype(np.int32)


def texts(seeds: Iterable[int], make: Callable[[int], Document] = make_document) -> list[str]:
    """The documents of some seeds, rendered."""
    return [render(make(seed)) for seed in seeds]


def pack(tokenizer: Tokenizer, documents: list[str]) -> PackedTokens:
    """Tokenizes documents and puts them in a row."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    rows = [encoding.ids + [end] for encoding in tokenizer.encode_batch(documents)]
    starts = np.cumsum([0] + [len(row) for row in rows[:-1]])
    return PackedTokens(np.concatenate([np.array(row, np.uint16) for row in rows]), starts)
