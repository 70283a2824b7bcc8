"""Tokens are drawn from exactly the distribution that was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_rows import a_sequence, inputs_of, random_logits
from scipy import stats

from jpaged.sampling.inputs import DrawInputs
from jpaged.sampling.sampler import choose, sample, token_logprobs, uniform
from jpaged.scheduling.request import Sequence
from pallas_kernels.token_choice import draw, greedy

VOCAB = 517  # four segments of the two-level draw and a bit of a fifth
NUM_ROWS = 10_000
chosen = jax.jit(choose)
drawn = jax.jit(draw)
uniforms = jax.jit(uniform)


def many_rows(vocab: int, position: int, **params) -> DrawInputs:
    """One row's settings many times, each with a seed of its own."""
    one = inputs_of([a_sequence([1], **params)], vocab).draw
    rows = jax.tree.map(lambda x: jnp.repeat(x, NUM_ROWS, 0) if x.ndim else x, one)
    seeds = jnp.arange(NUM_ROWS, dtype=jnp.uint32)
    return rows._replace(seed=seeds, position=jnp.full(NUM_ROWS, position))


def counts_of(logits: np.ndarray, num_rounds: int = 5, **params) -> np.ndarray:
    """How often each token is chosen in num_rounds * NUM_ROWS draws."""
    rows = jnp.tile(logits, (NUM_ROWS, 1))
    tokens = [
        chosen(rows, many_rows(len(logits), position, **params)) for position in range(num_rounds)
    ]
    return np.bincount(np.concatenate(tokens), minlength=len(logits))


def exact(logits: np.ndarray, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0) -> np.ndarray:
    """The filtered distribution in float64, by sorting.  Logits must not tie."""
    warm = logits.astype(np.float64) / temperature
    order = np.argsort(-warm)
    share = np.exp(warm[order] - warm.max())
    share[top_k or len(share) :] = 0
    share[np.cumsum(share) - share >= top_p * share.sum()] = 0
    share[share < min_p * share[0]] = 0
    probs = np.zeros_like(share)
    probs[order] = share / share.sum()
    return probs


def p_value(counts: np.ndarray, probs: np.ndarray) -> float:
    """Of a chi-square test; tokens expected less than ten times are taken together."""
    expected = probs * counts.sum()
    rare = expected < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    seen = expected > 0
    return float(stats.chisquare(observed[seen], expected[seen]).pvalue)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0, "top_k": 100},
        {"top_p": 0.8},
        {"min_p": 0.05, "temperature": 1.5},
        {"temperature": 2.0, "top_k": 300, "top_p": 0.9, "min_p": 0.01},
    ],
)
def test_frequencies_are_those_of_the_filtered_distribution(params):
    logits = random_logits(0, 1, VOCAB, scale=1.5)[0]
    counts, probs = counts_of(logits, **params), exact(logits, **params)
    assert np.all(counts[probs == 0] == 0)
    # the seeds are fixed, so this either holds for ever or shows a bias
    assert p_value(counts, probs) > 0.001


def test_the_last_tokens_of_the_vocabulary_get_their_share():
    logits = np.full(VOCAB, -20.0, np.float32)
    logits[[0, 127, 128, 511, 512, 516]] = 0.0  # where segments begin and end
    counts = counts_of(logits)
    likely = np.flatnonzero(counts > 100)
    assert likely.tolist() == [0, 127, 128, 511, 512, 516]
    assert p_value(counts[likely], np.full(6, 1 / 6)) > 0.001


def test_impossible_tokens_are_never_drawn():
    logits = random_logits(1, 1, VOCAB)[0]
    impossible = np.arange(VOCAB) % 3 != 1
    impossible[256:] = True  # whole segments, too
    counts = counts_of(np.where(impossible, -np.inf, logits).astype(np.float32), num_rounds=10)
    assert counts.sum() == 100_000
    assert counts[impossible].sum() == 0


@pytest.mark.parametrize(("vocab", "hole"), [(VOCAB, 1), (1024 * 128, 128)])
def test_impossible_tokens_are_not_drawn_where_rounding_decides(vocab, hole):
    # a long cumulative sum, made by a tree, can rise by a rounding error where the weight is zero
    num_rows = 5_000_000 // vocab
    rng, rows = np.random.default_rng(2), np.arange(num_rows)
    logits = rng.normal(0, 2, (num_rows, vocab)).astype(np.float32)
    is_hole = np.repeat(rng.random((num_rows, -(-vocab // hole))) < 0.6, hole, axis=1)
    logits[is_hole] = -np.inf
    weights = np.exp(logits.astype(np.float64))
    edges = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    for ulps in np.arange(-20, 21) / 4:
        at = rng.integers(1, vocab // hole + 1, num_rows) * hole - 1  # where a hole may begin
        u = np.clip(edges[rows, at] + ulps * 2.0**-24, 0, 1 - 2**-24)
        tokens = drawn(logits, jnp.asarray(u, jnp.float32))
        assert np.all(np.isfinite(logits[rows, tokens]))


def test_the_ends_of_the_unit_interval_draw_possible_tokens():
    logits = np.full((2, 1024), -np.inf, np.float32)
    logits[:, 300:310] = 0.0
    tokens = drawn(logits, jnp.asarray([0.0, np.nextafter(np.float32(1), np.float32(0))]))
    assert tokens.tolist() == [300, 309]


def test_greedy_takes_the_first_of_the_largest():
    logits = np.random.default_rng(3).integers(0, 4, (200, VOCAB)).astype(np.float32)
    np.testing.assert_array_equal(greedy(jnp.asarray(logits)), logits.argmax(axis=1))


def test_rows_of_temperature_zero_are_greedy_beside_rows_that_draw():
    logits = random_logits(4, 4, VOCAB)
    temperatures = [0.0, 1.0, 1e-6, 1.0]
    sequences = [a_sequence([1], temperature=t, top_k=5, seed=1) for t in temperatures]
    tokens = chosen(logits, inputs_of(sequences, VOCAB).draw)
    for row in (0, 2):
        assert tokens[row] == logits[row].argmax()
    for row in (1, 3):
        assert tokens[row] in np.argsort(-logits[row])[:5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_broken_rows_give_tokens_of_the_vocabulary(value):
    logits = np.full((3, VOCAB), value, np.float32)
    logits[1, 5:] = 0.0
    sequences = [a_sequence([1], seed=i, top_k=3, top_p=0.9, min_p=0.1) for i in range(3)]
    inputs = inputs_of(sequences, VOCAB).draw
    for tokens in (greedy(jnp.asarray(logits)), chosen(logits, inputs)):
        assert np.all((0 <= tokens) & (tokens < VOCAB))


def test_a_rows_randomness_does_not_depend_on_its_batch():
    seeds = jnp.asarray([5, 9, 5, 2**32 - 1], jnp.uint32)
    positions = jnp.asarray([3, 3, 4, 0])
    together = uniforms(seeds, positions)
    alone = [uniforms(seeds[i : i + 1], positions[i : i + 1])[0] for i in range(4)]
    np.testing.assert_array_equal(together, alone)
    assert len(set(together.tolist())) == 4


def test_every_step_and_every_sample_draws_anew():
    steps = [a_sequence([1, 2], [3] * count, seed=7) for count in range(3)]
    inputs = inputs_of(steps, VOCAB).draw
    assert inputs.position.tolist() == [2, 3, 4]
    assert len(set(inputs.seed.tolist())) == 1
    samples = [Sequence(steps[0].request, index) for index in range(3)]
    assert len(set(inputs_of(samples, VOCAB).draw.seed.tolist())) == 3


def test_uniforms_are_uniform_over_seeds_and_over_positions():
    many = jnp.arange(20_000)
    for numbers in (
        uniforms(many.astype(jnp.uint32), jnp.zeros_like(many)),
        uniforms(jnp.full(len(many), 7, jnp.uint32), many),
    ):
        assert stats.kstest(np.asarray(numbers), "uniform").pvalue > 0.001
        assert numbers.min() >= 0 and numbers.max() < 1


def test_logprobs_and_ranks_are_numpys_in_float64():
    logits = random_logits(5, 20, VOCAB, scale=5)
    tokens = np.random.default_rng(5).integers(0, VOCAB, 20)
    found = token_logprobs(jnp.asarray(logits), jnp.asarray(tokens), 7)
    wide = logits.astype(np.float64)
    log_probs = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    chosen_ones = log_probs[np.arange(20), tokens]
    ranked = np.argsort(-log_probs, axis=1)
    np.testing.assert_allclose(found.chosen, chosen_ones, atol=1e-5)
    np.testing.assert_array_equal(found.rank, 1 + (log_probs > chosen_ones[:, None]).sum(1))
    np.testing.assert_array_equal(found.top_tokens, ranked[:, :7])
    np.testing.assert_allclose(found.top, np.take_along_axis(log_probs, ranked, 1)[:, :7], 1e-5)


def test_logprobs_are_of_the_raw_distribution():
    logits = random_logits(6, 1, VOCAB)
    plain = a_sequence([1], temperature=0, logprobs=3)
    bent = a_sequence([1], [2], logprobs=3, temperature=2.0, top_k=1, logit_bias={9: 100})
    raw = sample(jnp.asarray(logits), inputs_of([plain], VOCAB), 3)
    after = sample(jnp.asarray(logits), inputs_of([bent], VOCAB), 3)
    assert after.tokens.tolist() == [9]
    np.testing.assert_array_equal(raw.logprobs.top, after.logprobs.top)
    assert after.logprobs.rank[0] == 1 + np.sum(logits[0] > logits[0, 9])
