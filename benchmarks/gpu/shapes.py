"""The batches that are measured: Llama-3.1-8B's attention over one large pool of pages."""

import math
from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.page_table import PageTable


@dataclass(frozen=True)
class Heads:
    H: int = 32
    K: int = 8
    D: int = 128

    @property
    def bytes_a_token(self) -> int:
        """Of keys and values in bf16."""
        return 2 * 2 * self.K * self.D

    @property
    def scale(self) -> float:
        return self.D**-0.5


LLAMA, TOY = Heads(), Heads(4, 2, 64)


@dataclass(frozen=True)
class Decode:
    """One token of each of `batch` sequences, that have `context` tokens on the mean."""

    batch: int
    context: int
    page_size: int = 16
    is_skewed: bool = False

    @property
    def name(self) -> str:
        kind = "skewed" if self.is_skewed else "even"
        return f"decode B{self.batch} x {self.context}, pages of {self.page_size}, {kind}"

    def lengths(self) -> np.ndarray:
        """Even, or log-normal with a deviation of 1: the longest has about ten times the mean."""
        if not self.is_skewed:
            return np.full(self.batch, self.context, np.int32)
        drawn = np.random.default_rng(0).lognormal(size=self.batch)
        return np.maximum(1, drawn * self.context / drawn.mean()).astype(np.int32)

    def num_bytes(self, heads: Heads) -> int:
        """What has to be read and written: keys and values, queries and results."""
        return heads.bytes_a_token * int(self.lengths().sum()) + 4 * self.batch * heads.H * heads.D

    def num_pages(self) -> int:
        return int((-(-self.lengths() // self.page_size)).sum())


@dataclass(frozen=True)
class Prompts:
    """`count` prompts of `length` tokens, each behind `before` tokens that are in the cache."""

    count: int
    length: int
    before: int = 0
    page_size: int = 16

    @property
    def name(self) -> str:
        behind = f" behind {self.before}" if self.before else ""
        return f"prefill {self.count} x {self.length}{behind}, pages of {self.page_size}"

    def num_flops(self, heads: Heads) -> int:
        """Of both products, for the keys that are seen."""
        seen = self.length * self.before + self.length * (self.length + 1) // 2
        return 4 * heads.H * heads.D * self.count * seen


@cache
def pool(num_tokens: int, page_size: int, heads: Heads) -> tuple[jax.Array, jax.Array]:
    """Pages of random keys and values, in bf16."""
    shape = (num_tokens // page_size, heads.K, page_size, heads.D)
    fill = jax.jit(partial(jax.random.normal, shape=shape, dtype=jnp.bfloat16))
    return fill(jax.random.key(1)), fill(jax.random.key(2))


def queries(num_tokens: int, heads: Heads) -> jax.Array:
    return jax.random.normal(jax.random.key(3), (num_tokens, heads.H, heads.D), jnp.bfloat16)


def page_lists(lengths: np.ndarray, page_size: int, num_pages: int, count: int) -> list[jax.Array]:
    """Tables [B, N] of scattered pages, each of its own ones as far as the pool goes."""
    needed = -(-lengths // page_size)
    total, rng, lists = int(needed.sum()), np.random.default_rng(4), []
    # a pool much larger than the cache may be read twice
    rounds = -(-total // num_pages)
    order = np.concatenate([rng.permutation(num_pages) for _ in range(rounds)])
    for i in range(count):
        first = i * total % (len(order) - total + 1)
        own = np.split(order[first : first + total], np.cumsum(needed)[:-1])
        table = np.zeros((len(lengths), int(needed.max())), np.int32)
        for row, pages in zip(table, own, strict=True):
            row[: len(pages)] = pages
        lists.append(jnp.asarray(table))
    return lists


def table_of(spans: list[tuple[int, int]], pages: jax.Array, num_slots: int) -> PageTable:
    """The letter for sequences that have (before, new) tokens; nothing is to be written."""
    before, new = np.array(spans).T
    starts = np.concatenate([[0], np.cumsum(new)])
    positions = np.concatenate([np.arange(count) + done for done, count in spans])
    fields = (positions, np.full(len(positions), num_slots), starts, pages, before + new)
    return PageTable(*(jnp.asarray(field, jnp.int32) for field in fields))


def pages_for(num_tokens: int, page_size: int) -> int:
    """Tokens, rounded up to whole pages."""
    return page_size * math.ceil(num_tokens / page_size)
