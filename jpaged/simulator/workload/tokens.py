"""Prompts that are made when somebody looks at them: a million must not fill the memory.

A *stream* is endless and has a name; its tokens follow from the name alone, and two streams
differ.  A prompt is made of the beginnings of some, one behind another:

    system prompt: stream 7     document: stream 12        question: stream 4711
    ├───────── 500 ───────────┤├────────── 900 ──────────┤├────── 80 ──────┤

Prompts that begin with the same pieces therefore begin with the same tokens, which is all that a
prefix cache has to know of them.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import shake_128
from struct import unpack
from typing import NamedTuple

from jpaged.simulator.workload.request import VOCAB


class Piece(NamedTuple):
    """The first `num_tokens` tokens of a stream: that of this number among its source's."""

    source: str
    number: int
    num_tokens: int

    @property
    def tokens(self) -> list[int]:
        """Token ids below VOCAB."""
        # a digest of any length, of which a shorter one is the beginning
        digest = shake_128(f"{self.source}/{self.number}".encode()).digest(2 * self.num_tokens)
        return [token % VOCAB for token in unpack(f"<{self.num_tokens}H", digest)]


class Tokens(Sequence[int]):
    """Token ids that are not kept: each time they are looked at they are made anew.

    Two of them are equal if they are made of equal pieces.
    """

    __slots__ = ()

    def pieces(self) -> Iterator[Piece]:
        """What it is made of, from the beginning on."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        for piece in self.pieces():
            yield from piece.tokens

    def __getitem__(self, index):  # an int's or a slice's
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        return len(self) == len(other) and tuple(self.pieces()) == tuple(other.pieces())

    def __hash__(self) -> int:
        return hash(tuple(self.pieces()))


@dataclass(frozen=True, slots=True, eq=False)
class Passage(Tokens):
    """The beginning of one stream, behind another passage that it may share with others."""

    source: str
    number: int
    num_tokens: int
    before: "Passage | None" = None

    def pieces(self) -> Iterator[Piece]:
        if self.before is not None:
            yield from self.before.pieces()
        yield Piece(self.source, self.number, self.num_tokens)

    def __len__(self) -> int:
        return self.num_tokens + (0 if self.before is None else len(self.before))


@dataclass(frozen=True, slots=True, eq=False)
class Blocks(Tokens):
    """A stream for each of `numbers`, and of each `size` tokens; of the last one what is left."""

    source: str
    numbers: "array[int]"
    size: int
    num_tokens: int

    def pieces(self) -> Iterator[Piece]:
        left = self.num_tokens
        for number in self.numbers:
            yield Piece(self.source, number, min(left, self.size))
            left -= self.size

    def __len__(self) -> int:
        return self.num_tokens
