"""Top-k, top-p and min-p keep the tokens that Hugging Face's own processors keep."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sampling_rows import random_logits
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pallas_kernels.token_choice.filters import (
    keep_likely,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    order_key,
)

VOCAB_SIZES = (5, 64, 517)
EDGE = 1e-6  # float32 sums of probabilities are off by about this much


@dataclass(frozen=True)
class Row:
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def hf(self, logits: np.ndarray) -> np.ndarray:
        """The row's logits after Hugging Face's processors, in the order of its `generate`."""
        processors = LogitsProcessorList([TemperatureLogitsWarper(self.temperature)])
        if self.top_k:
            processors.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            processors.append(TopPLogitsWarper(self.top_p))
        if self.min_p:
            processors.append(MinPLogitsWarper(self.min_p))
        scores = processors(torch.LongTensor([[0]]), torch.tensor(logits)[None])
        return scores[0].numpy()

    def on_edge(self, logits: np.ndarray) -> np.ndarray:
        """Where float32's rounding decides: the mass above a token is top_p, or its share of the
        likeliest one's probability is min_p."""
        warm = logits.astype(np.float64) / self.temperature
        if self.top_k:
            warm = np.where(warm >= np.sort(warm)[-self.top_k :][0], warm, -np.inf)
        share = np.exp(warm - warm.max())
        probs = share / share.sum()
        order = np.argsort(-probs, kind="stable")
        above = np.empty_like(probs)
        above[order] = np.cumsum(probs[order]) - probs[order]
        return (abs(above - self.top_p) < EDGE) | (abs(share - self.min_p) < EDGE)


MIXED_ROWS = [
    Row(),
    Row(top_k=1),
    Row(top_k=3, temperature=0.7),
    Row(top_p=0.9),
    Row(top_p=0.01, temperature=2.0),
    Row(min_p=0.1),
    Row(min_p=1.0),
    Row(top_k=40, top_p=0.95),
    Row(top_k=4, top_p=0.5, min_p=0.3, temperature=1.5),
    Row(top_p=0.8, min_p=0.02, temperature=0.3),
]


@jax.jit
def ours(warm, top_k, top_p, min_p):
    return keep_likely(warm, top_k, top_p, min_p)


def filtered(logits: np.ndarray, rows: list[Row]) -> np.ndarray:
    warm = jnp.asarray(logits) / jnp.asarray([row.temperature for row in rows])[:, None]
    return np.asarray(
        ours(
            warm,
            jnp.asarray([row.top_k for row in rows], jnp.int32),
            jnp.asarray([row.top_p for row in rows], jnp.float32),
            jnp.asarray([row.min_p for row in rows], jnp.float32),
        )
    )


def assert_same_kept(logits: np.ndarray, rows: list[Row]) -> None:
    for result, row, given in zip(filtered(logits, rows), rows, logits, strict=True):
        theirs = row.hf(given)
        # among equal logits Hugging Face keeps some, by its sort's whim; we keep all
        expected = given >= given[np.isfinite(theirs)].min()
        differs = expected != np.isfinite(result)
        assert not np.any(differs & ~row.on_edge(given)), row
        kept = np.isfinite(result) & np.isfinite(theirs)
        np.testing.assert_allclose(result[kept], theirs[kept], rtol=1e-6)


@pytest.mark.parametrize("vocab", VOCAB_SIZES)
def test_rows_with_different_settings_are_filtered_as_hugging_face_does(vocab):
    rows = [row for row in MIXED_ROWS if row.top_k <= vocab]
    for seed in range(20):
        assert_same_kept(random_logits(seed, len(rows), vocab), rows)


def test_a_large_odd_vocabulary_is_filtered_as_hugging_face_does():
    assert_same_kept(random_logits(0, len(MIXED_ROWS), 32003), MIXED_ROWS)


def test_random_settings_are_filtered_as_hugging_face_does():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = [
            Row(
                temperature=float(rng.uniform(0.1, 3)),
                top_k=int(rng.integers(0, 64)),
                top_p=float(rng.uniform(0.01, 1)),
                min_p=float(rng.choice([0, rng.uniform(0, 0.5)])),
            )
            for _ in range(10)
        ]
        assert_same_kept(random_logits(seed, 10, 64), rows)


@pytest.mark.parametrize("scale", [1e-4, 30, 1e4, 1e30])
def test_flat_and_peaked_rows_are_filtered_as_hugging_face_does(scale):
    rows = [row for row in MIXED_ROWS if row.top_k <= 64]
    assert_same_kept(random_logits(1, len(rows), 64, scale), rows)


def test_equal_logits_stay_or_go_together():
    rows = [Row(top_k=2), Row(top_k=7), Row(top_p=0.3), Row(top_p=0.9), Row(min_p=0.5)]
    for seed in range(20):
        logits = np.random.default_rng(seed).integers(-3, 3, (len(rows), 64)).astype(np.float32)
        assert_same_kept(logits, rows)
        for result, given in zip(filtered(logits, rows), logits, strict=True):
            assert all(len(set(np.isfinite(result[given == value]))) == 1 for value in set(given))


def test_negative_zero_ties_with_zero():
    logits = jnp.asarray([[0.0, -0.0, -1.0, -0.0]])
    kept = keep_top_k(logits, jnp.asarray([1]))
    assert np.isfinite(kept[0]).tolist() == [True, True, False, True]


def test_banned_tokens_stay_banned():
    logits = jnp.asarray([[1.0, -jnp.inf, 0.0, -jnp.inf]] * 3)
    kept = keep_likely(
        logits, jnp.asarray([4, 0, 0]), jnp.asarray([1, 0.999, 1]), jnp.asarray([0, 0, 0.0])
    )
    assert np.isfinite(kept).tolist() == [[True, False, True, False]] * 3


def test_no_filter_keeps_every_token_of_a_long_row():
    logits = jnp.asarray(random_logits(2, 1, 32003, scale=20))
    for kept in (
        keep_top_k(logits, jnp.asarray([0])),
        keep_top_k(logits, jnp.asarray([10**6])),
        keep_top_p(logits, jnp.asarray([1.0])),
        keep_min_p(logits, jnp.asarray([0.0])),
    ):
        np.testing.assert_array_equal(kept, logits)


def test_the_likeliest_token_survives_the_narrowest_filters():
    logits = jnp.asarray(random_logits(3, 50, 517))
    narrow = jnp.full(50, 1e-9)
    kept = ours(logits, jnp.ones(50, jnp.int32), narrow, jnp.ones(50))
    assert np.isfinite(kept).sum(axis=1).tolist() == [1] * 50
    assert np.asarray(kept).argmax(axis=1).tolist() == np.asarray(logits).argmax(axis=1).tolist()


def test_keys_order_as_the_floats_do():
    values = np.sort(
        np.array([-np.inf, -3e38, -1.5, -1e-40, 0.0, 1e-40, 2.0, 3e38, np.inf], np.float32)
    )
    keys = np.asarray(order_key(jnp.asarray(values)))
    assert keys.tolist() == sorted(set(keys.tolist()))
