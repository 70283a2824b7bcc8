"""Ragged paged batches, and what attention over them is: loops over sequences, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from pallas_kernels.page_table import PageTable

INT8 = 32  # the deviation of int8 contents


@dataclass(frozen=True)
class Shape:
    """The shape of a step and of its cache: T tokens, B rows, N pages a row, pages of S tokens."""

    T: int = 48
    B: int = 6
    N: int = 4
    S: int = 16
    H: int = 4
    K: int = 2
    D: int = 16
    dtype: str = "float32"
    page_dtype: str | None = None  # of keys, values and pages, where it is not q's

    @property
    def stored(self) -> str:
        return self.page_dtype or self.dtype


@dataclass(frozen=True)
class Ragged:
    """A batch, once as the kernel gets it and once as plain arrays for each sequence."""

    shape: Shape
    spans: list[tuple[int, int]]  # each sequence's tokens before this step, and in it
    queries: list[np.ndarray]  # [new, H, D]
    keys: list[np.ndarray]  # [before + new, K, D]
    values: list[np.ndarray]
    q: np.ndarray  # [T, H, D], and so on as in `write_and_attend`
    k: np.ndarray  # [T, K, D], the step's own tokens
    v: np.ndarray
    k_pages: np.ndarray  # before the step: [P, K, S, D]
    v_pages: np.ndarray
    table: PageTable

    def written(self) -> tuple[np.ndarray, np.ndarray]:
        """The pages as they should be after the step: each token in its slot, nothing else new."""
        k_pages, v_pages = self.k_pages.copy(), self.v_pages.copy()
        num_pages, _, page_size, _ = k_pages.shape
        for token, slot in enumerate(self.table.write_slots.tolist()):
            if slot < num_pages * page_size:
                k_pages[slot // page_size, :, slot % page_size] = self.k[token]
                v_pages[slot // page_size, :, slot % page_size] = self.v[token]
        return k_pages, v_pages


def make_ragged(
    shape: Shape, spans: list[tuple[int, int]], seed: int = 0, unwritten: float = np.nan
) -> Ragged:
    """Random contents in random pages; int8 ones are normal with a deviation of `INT8`.

    Slots that nobody has written hold NaN, or `unwritten`: those of the step's own tokens too.
    """
    rng = np.random.default_rng(seed)
    T, B, N, S, H, K, D = shape.T, shape.B, shape.N, shape.S, shape.H, shape.K, shape.D
    assert len(spans) <= B and sum(new for _, new in spans) <= T

    def normal(*dims: int, dtype: str) -> np.ndarray:
        drawn = rng.normal(size=dims)
        if dtype == "int8":
            return np.clip(np.round(INT8 * drawn), -127, 127).astype(np.int8)
        return np.array(jnp.asarray(drawn, dtype))

    def of_step(sequences: list[np.ndarray], num_heads: int, dtype: str) -> np.ndarray:
        """Each sequence's new tokens one after another, and noise for padding."""
        new = [rows[before:] for rows, (before, _) in zip(sequences, spans, strict=True)]
        return np.concatenate([*new, normal(T - sum(map(len, new)), num_heads, D, dtype=dtype)])

    queries = [normal(new, H, D, dtype=shape.dtype) for _, new in spans]
    keys = [normal(before + new, K, D, dtype=shape.stored) for before, new in spans]
    values = [normal(before + new, K, D, dtype=shape.stored) for before, new in spans]
    num_pages = [-(-(before + new) // S) for before, new in spans]
    P = B * N + 3  # a fixed number: the cache's shape too is compiled for
    free = list(rng.permutation(P))
    # rows beyond a sequence's pages name any page, also those of others and of nobody
    pages = rng.integers(0, P, size=(B, N)).astype(np.int32)
    if shape.stored == "int8":
        unwritten = 127  # it has no NaN
    k_pages = np.full((P, K, S, D), unwritten, jnp.dtype(shape.stored))
    v_pages = k_pages.copy()
    for row, ((before, _), needed) in enumerate(zip(spans, num_pages, strict=True)):
        pages[row, :needed] = [free.pop() for _ in range(needed)]
        for position in range(before):
            page, offset = pages[row, position // S], position % S
            k_pages[page, :, offset] = keys[row][position]
            v_pages[page, :, offset] = values[row][position]
    q = np.concatenate([*queries, normal(T - sum(map(len, queries)), H, D, dtype=shape.dtype)])
    k, v = of_step(keys, K, shape.stored), of_step(values, K, shape.stored)
    table = make_table(shape, spans, pages, P)
    return Ragged(shape, spans, queries, keys, values, q, k, v, k_pages, v_pages, table)


def make_table(
    shape: Shape, spans: list[tuple[int, int]], pages: np.ndarray, num_pages: int
) -> PageTable:
    positions = np.zeros(shape.T, np.int32)
    write_slots = np.full(shape.T, num_pages * shape.S, np.int32)
    starts = np.full(shape.B + 1, sum(new for _, new in spans), np.int32)
    lengths = np.zeros(shape.B, np.int32)
    token = 0
    for row, (before, new) in enumerate(spans):
        starts[row], lengths[row] = token, before + new
        for position in range(before, before + new):
            page, offset = divmod(position, shape.S)
            positions[token] = position
            write_slots[token] = pages[row, page] * shape.S + offset
            token += 1
    fields = (positions, write_slots, starts, pages, lengths)
    return PageTable(*(jnp.asarray(field) for field in fields))  # pyright: ignore[reportArgumentType]


def attention(batch: Ragged, scale: float, **options) -> np.ndarray:
    """[T, H, D] in float64, one query and one head at a time; zeros for padding."""
    return attention_and_lse(batch, scale, **options)[0]


def attention_and_lse(
    batch: Ragged,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: np.ndarray | None = None,
    alibi: np.ndarray | None = None,
    first: Sequence[int] | None = None,
    causal: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Beside `attention`, [T, H]: the logarithm of each softmax's denominator, -inf for padding.

    Sequence b's keys before first[b] are left out.  Where not causal, all others are seen.
    """
    shape = batch.shape
    out, lse = np.zeros((shape.T, shape.H, shape.D)), np.full((shape.T, shape.H), -np.inf)
    token = 0
    for row, (before, new) in enumerate(batch.spans):
        for position in range(before, before + new):
            stop = position + 1 if causal else before + new
            start = 0 if first is None else first[row]
            start = start if window is None else max(start, position + 1 - window)
            for h in range(shape.H):
                kv_head = h // (shape.H // shape.K)
                seen = batch.keys[row][start:stop, kv_head].astype(np.float64)
                scores = seen @ batch.q[token, h].astype(np.float64) * scale
                if softcap is not None:
                    scores = softcap * np.tanh(scores / softcap)
                if alibi is not None:
                    scores = scores + float(alibi[h]) * (np.arange(start, stop) - position)
                others = [] if sinks is None else [float(sinks[h])]
                if not len(scores) + len(others):
                    continue
                peak = max([*scores, *others])
                weights = np.exp(np.append(scores, others) - peak)
                shares = weights[: len(scores)] / weights.sum()
                values = batch.values[row][start:stop, kv_head].astype(np.float64)
                out[token, h] = shares @ values
                lse[token, h] = peak + np.log(weights.sum())
            token += 1
    return out, lse
