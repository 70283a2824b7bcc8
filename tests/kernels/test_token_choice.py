"""Choosing tokens, in every implementation, against sorting and summing in float64.

An implementation may differ where u falls on the edge between two tokens, or a filter's threshold
on a token, to a rounding error.  So the oracle gives the first and the last token that may come
out; nearly always they are the same one.
"""

from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats

from pallas_kernels import native
from pallas_kernels.token_choice import IMPLEMENTATIONS, choose_tokens

# around the registers of 16 and the segments of 128 and 256
SMALL = (1, 2, 3, 15, 16, 17, 127, 128, 129, 255, 256, 257, 300, 512, 517, 700)
LARGE = 151_936  # Qwen3's, which leaves half a segment of 256 over
NUM_ROWS = 300
BELOW_ONE = 1 - 2**-24
EDGE = 1e-6  # float32 sums of probabilities are off by about this much
IMPOSSIBLE = 1e-46  # a share of the likeliest token's that float32 rounds to zero


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request) -> str:
    if request.param == "native":
        if not native.is_available():
            pytest.skip(f"no native kernels: {native.why_not()}")
        if jax.default_backend() != "cpu":
            pytest.skip("the native kernels are the CPU's")
    return request.param


@dataclass(frozen=True)
class Rows:
    """Each row's logits, number and settings."""

    logits: np.ndarray
    u: np.ndarray
    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        return Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


def rows_of(
    logits: np.ndarray,
    u: ArrayLike = 0.5,
    temperature: ArrayLike = 1.0,
    top_k: ArrayLike = 0,
    top_p: ArrayLike = 1.0,
    min_p: ArrayLike = 0.0,
) -> Rows:
    """Settings are a number for all rows, or one for each."""

    def each(values: ArrayLike, dtype: type) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype), len(logits)).copy()

    return Rows(
        logits=np.asarray(logits, np.float32),
        u=each(u, np.float32),
        temperature=each(temperature, np.float32),
        top_k=each(top_k, np.int32),
        top_p=each(top_p, np.float32),
        min_p=each(min_p, np.float32),
    )


def random_rows(vocab: int, num_rows: int, seed: int, temperatures: list[float]) -> Rows:
    """Logits of several kinds, some tied and some banned, under all mixtures of settings."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.choice([0.1, 1, 3, 10], (num_rows, 1)), (num_rows, vocab))
    logits[::5] = np.round(logits[::5])
    is_banned = rng.random((num_rows, vocab)) < rng.choice([0, 0, 0.5, 0.95], (num_rows, 1))
    is_banned[np.arange(num_rows), rng.integers(0, vocab, num_rows)] = False
    return rows_of(
        np.where(is_banned, -np.inf, logits),
        u=np.float32(rng.integers(0, 2**24, num_rows) / 2**24),
        temperature=rng.choice(temperatures, num_rows),
        top_k=rng.choice([0, 0, -1, 1, 2, 5, 40, vocab - 1, vocab, vocab + 1, 10**9], num_rows),
        top_p=rng.choice([1, 1, 1, 0.95, 0.5, 0.01, 1e-6], num_rows),
        min_p=rng.choice([0, 0, 0, 0.001, 0.05, 0.4, 1], num_rows),
    )


@partial(jax.jit, static_argnames="implementation")
def jitted(logits, u, temperature, top_k, top_p, min_p, implementation):
    return choose_tokens(logits, u, temperature, top_k, top_p, min_p, implementation=implementation)


def chosen(rows: Rows, implementation: str | None) -> np.ndarray:
    arrays = {field.name: jnp.asarray(getattr(rows, field.name)) for field in fields(rows)}
    tokens = jitted(**arrays, implementation=implementation)
    assert tokens.shape == rows.u.shape and tokens.dtype == jnp.int32
    return np.asarray(tokens)


def mass_above(shares: np.ndarray, warm: np.ndarray) -> np.ndarray:
    """For each token, what those that are strictly likelier weigh together."""
    order = np.argsort(-warm, axis=1, kind="stable")
    ranked = np.take_along_axis(warm, order, axis=1)
    before = np.cumsum(np.take_along_axis(shares, order, axis=1), axis=1)
    before -= np.take_along_axis(shares, order, axis=1)
    is_first = np.ones(warm.shape, bool)
    is_first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.maximum.accumulate(np.where(is_first, np.arange(warm.shape[1]), 0), axis=1)
    above = np.empty_like(before)
    np.put_along_axis(above, order, np.take_along_axis(before, first, axis=1), axis=1)
    return above


def shares_left(rows: Rows, top_p_slack: float = 0, min_p_slack: float = 0) -> np.ndarray:
    """The filtered weights in float64; a positive slack keeps more, a negative one less."""
    vocab = rows.logits.shape[1]
    warm = (rows.logits / np.where(rows.temperature, rows.temperature, 1)[:, None]).astype(float)
    k = np.where(rows.top_k < 1, vocab, np.minimum(rows.top_k, vocab))
    smallest = np.take_along_axis(-np.sort(-warm, axis=1), k[:, None] - 1, axis=1)
    warm = np.where(warm >= smallest, warm, -np.inf)
    shares = np.exp(warm - warm.max(axis=1, keepdims=True))
    shares[shares < IMPOSSIBLE] = 0
    above = mass_above(shares, warm) / shares.sum(axis=1, keepdims=True)
    top_p = rows.top_p[:, None].astype(float)
    # the likeliest has nothing above it, and always stays
    shares[(above >= top_p + top_p_slack) & (top_p < 1) & (above > 0)] = 0
    floor = rows.min_p[:, None].astype(float) * (1 - min_p_slack)
    shares[shares < np.minimum(floor, 1)] = 0
    return shares


def place(shares: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The first token at which the cumulative distribution passes u, or the last possible one."""
    cumulative = np.cumsum(shares, axis=1)
    target = np.maximum(u, 0)[:, None] * cumulative[:, -1:]
    passes = (cumulative > target) & (shares > 0)
    last = shares.shape[1] - 1 - np.argmax((shares > 0)[:, ::-1], axis=1)
    return np.where(passes.any(axis=1), np.argmax(passes, axis=1), last)


@dataclass(frozen=True)
class Expected:
    """Each row's first and last token that may come out, and which between them may not."""

    first: np.ndarray
    last: np.ndarray
    is_possible: np.ndarray

    def is_certain(self) -> np.ndarray:
        return self.first == self.last

    def admits(self, tokens: np.ndarray) -> np.ndarray:
        possible = self.is_possible[np.arange(len(tokens)), tokens]
        return possible & (self.first <= tokens) & (tokens <= self.last)


def expected_of(rows: Rows) -> Expected:
    kept = [shares_left(rows, *slacks) for slacks in product((EDGE, -EDGE), repeat=2)]
    u = rows.u.astype(float)
    places = np.array([place(x, v) for x in kept for v in (u - EDGE, u, u + EDGE)])
    largest = rows.logits.argmax(axis=1)
    is_greedy = rows.temperature == 0
    first = np.where(is_greedy, largest, places.min(axis=0))
    last = np.where(is_greedy, largest, places.max(axis=0))
    return Expected(first, last, kept[0] > 0)


def assert_as_expected(rows: Rows, tokens: np.ndarray, certain: float) -> None:
    """A share of at least `certain` of the rows leaves no choice to rounding."""
    expected = expected_of(rows)
    assert expected.is_certain().mean() >= certain
    wrong = np.flatnonzero(~expected.admits(tokens))
    said = [
        (int(r), int(tokens[r]), int(expected.first[r]), int(expected.last[r])) for r in wrong[:5]
    ]
    assert not wrong.size, f"{wrong.size} rows; (row, token, first, last): {said}"


@pytest.mark.parametrize("vocab", SMALL)
def test_tokens_are_those_where_the_cumulative_distribution_passes_u(vocab, implementation):
    for seed in range(3):
        rows = random_rows(vocab, NUM_ROWS, seed, [0, 0.3, 0.7, 1, 1, 3])

        assert_as_expected(rows, chosen(rows, implementation), certain=0.98)


@pytest.mark.parametrize("temperature", [1e-5, 1e-2, 100, 1e10, 1e30])
@pytest.mark.parametrize("vocab", [17, 300])
def test_tiny_and_huge_temperatures(temperature, vocab, implementation):
    rows = random_rows(vocab, NUM_ROWS, 1, [temperature])

    # where all are equally likely, filters often meet an edge
    assert_as_expected(rows, chosen(rows, implementation), certain=0.75)


def test_a_large_odd_vocabulary(implementation):
    rows = random_rows(LARGE, 16, 0, [0, 0.3, 0.7, 1, 1, 3])

    # a share is small here, and an edge is never far
    assert_as_expected(rows, chosen(rows, implementation), certain=0.7)


@pytest.mark.parametrize("vocab", [16, 129, 517, 700])
def test_native_and_reference_choose_the_same_but_on_an_edge(vocab):
    if not native.is_available() or jax.default_backend() != "cpu":
        pytest.skip(f"no native kernels: {native.why_not()}")
    for seed in range(3, 8):
        rows = random_rows(vocab, NUM_ROWS, seed, [0, 1e-2, 0.7, 1, 3, 1e30])
        is_certain = expected_of(rows).is_certain()

        differs = chosen(rows, "native") != chosen(rows, "reference")

        assert is_certain.mean() > 0.98
        assert not np.any(differs & is_certain)
        assert differs.sum() <= 2  # and on an edge they hardly ever do


@pytest.mark.parametrize("vocab", [17, 257, 700])
def test_u_on_the_edge_between_two_tokens_gives_one_of_them(vocab, implementation):
    rng = np.random.default_rng(vocab)
    for ulps in (-1000, -16, -4, -1, 0, 1, 4, 16, 1000):
        rows = random_rows(vocab, NUM_ROWS, 2, [0.7, 1, 3])
        shares = shares_left(rows)
        edges = np.cumsum(shares, axis=1) / shares.sum(axis=1, keepdims=True)
        some = edges[np.arange(NUM_ROWS), rng.integers(0, vocab, NUM_ROWS)]
        u = np.clip(some + ulps * 2.0**-24, 0, BELOW_ONE).astype(np.float32)
        rows = replace(rows, u=u)

        assert_as_expected(rows, chosen(rows, implementation), certain=0)


@pytest.mark.parametrize("vocab", [2, 16, 128, 256, 512])
def test_a_token_begins_where_the_one_before_it_ends(vocab, implementation):
    token = np.arange(vocab)
    logits = np.zeros((vocab, vocab), np.float32)

    # equal weights and a power of two: nothing is rounded
    tokens = chosen(rows_of(logits, token / vocab), implementation)

    np.testing.assert_array_equal(tokens, token)


@pytest.mark.parametrize("vocab", SMALL)
@pytest.mark.parametrize("u", [0, BELOW_ONE])
def test_the_ends_of_the_unit_interval_give_the_first_and_last_possible_token(
    u, vocab, implementation
):
    rng = np.random.default_rng(vocab)
    logits = np.full((NUM_ROWS, vocab), -np.inf, np.float32)
    # holes of whole segments, before, between and behind what is possible
    bounds = np.sort(rng.integers(0, vocab, (NUM_ROWS, 2)), axis=1)
    for row, (first, last) in zip(logits, bounds, strict=True):
        row[first : last + 1] = np.where(rng.random(last + 1 - first) < 0.5, 0, -np.inf)
        row[[first, last]] = 0
    impossible = rng.random(logits.shape) < 0.5  # by weight, not by a ban
    logits[impossible & ~np.isfinite(logits)] = -200

    tokens = chosen(rows_of(logits, u), implementation)

    np.testing.assert_array_equal(tokens, bounds[:, 0 if u == 0 else 1])


@pytest.mark.parametrize("vocab", SMALL)
def test_greedy_rows_take_the_first_of_the_largest(vocab, implementation):
    rng = np.random.default_rng(vocab)
    logits = rng.integers(0, 3, (NUM_ROWS, vocab)).astype(np.float32)
    logits[::2][rng.random((NUM_ROWS // 2, vocab)) < 0.9] = -np.inf
    # neither number nor filters have a say
    rows = rows_of(
        logits,
        u=rng.random(NUM_ROWS),
        temperature=0,
        top_k=rng.integers(-1, vocab + 3, NUM_ROWS),
        top_p=rng.choice([0.1, 0.9, 1], NUM_ROWS),
        min_p=rng.choice([0, 0.5, 1], NUM_ROWS),
    )

    np.testing.assert_array_equal(chosen(rows, implementation), logits.argmax(axis=1))


@pytest.mark.parametrize("vocab", [2, 16, 300])
def test_negative_zero_ties_with_zero(vocab, implementation):
    logits = np.full((1, vocab), -1, np.float32)
    logits[0, [vocab - 2, vocab - 1]] = -0.0, 0.0

    assert chosen(rows_of(logits, temperature=0), implementation)[0] == vocab - 2
    for u, token in [(0, vocab - 2), (BELOW_ONE, vocab - 1)]:
        assert chosen(rows_of(logits, u, top_k=1), implementation)[0] == token


@pytest.mark.parametrize("vocab", SMALL)
def test_the_only_token_that_is_not_banned_is_chosen(vocab, implementation):
    rows = random_rows(vocab, NUM_ROWS, 3, [0, 1e-5, 1, 1e30])
    token = np.random.default_rng(4).integers(0, vocab, NUM_ROWS)
    only = np.full_like(rows.logits, -np.inf)
    only[np.arange(NUM_ROWS), token] = rows.logits.max(axis=1)

    np.testing.assert_array_equal(chosen(replace(rows, logits=only), implementation), token)


@pytest.mark.parametrize("vocab", [3, 16, 300])
@pytest.mark.parametrize("beyond", [0, 1, 10**6, 2**31 - 1])
def test_a_top_k_of_the_vocabulary_or_more_keeps_all(beyond, vocab, implementation):
    rows = random_rows(vocab, NUM_ROWS, 5, [0.7, 1, 3])
    top_k = np.full(NUM_ROWS, min(vocab + beyond, 2**31 - 1), np.int32)

    all_kept = chosen(replace(rows, top_k=np.zeros_like(top_k)), implementation)

    np.testing.assert_array_equal(chosen(replace(rows, top_k=top_k), implementation), all_kept)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}], ids=str)
def test_the_narrowest_filters_leave_the_likeliest_tokens(narrow, implementation):
    rng = np.random.default_rng(6)
    logits = rng.integers(0, 9, (NUM_ROWS, 300)).astype(np.float32)

    tokens = chosen(rows_of(logits, rng.random(NUM_ROWS), **narrow), implementation)

    np.testing.assert_array_equal(logits[np.arange(NUM_ROWS), tokens], logits.max(axis=1))
    assert len(set(tokens - logits.argmax(axis=1))) > 9  # all that tie, not the first alone


def test_a_rows_token_does_not_depend_on_its_batch(implementation):
    rows = random_rows(300, NUM_ROWS, 7, [0, 0.7, 1, 3])
    order = np.random.default_rng(7).permutation(NUM_ROWS)
    together = chosen(rows, implementation)

    np.testing.assert_array_equal(chosen(rows.take(order), implementation), together[order])
    alone = [chosen(rows.take(np.array([row])), implementation)[0] for row in range(50)]
    np.testing.assert_array_equal(alone, together[:50])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("temperature", [0, 1e-5, 1])
@pytest.mark.parametrize("vocab", [1, 16, 300])
def test_broken_rows_give_tokens_of_the_vocabulary(value, temperature, vocab, implementation):
    rows = random_rows(vocab, NUM_ROWS, 8, [temperature])
    rows.logits[: NUM_ROWS // 2] = value
    rows.logits[NUM_ROWS // 2 :, : vocab // 2] = value

    tokens = chosen(rows, implementation)

    assert np.all((0 <= tokens) & (tokens < vocab))


def test_a_broken_row_leaves_its_neighbours_alone(implementation):
    rows = random_rows(300, NUM_ROWS, 8, [0, 0.7, 1])
    before = chosen(rows, implementation)
    rows.logits[1::3] = np.nan

    is_whole = np.arange(NUM_ROWS) % 3 != 1
    np.testing.assert_array_equal(chosen(rows, implementation)[is_whole], before[is_whole])


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
    ids=str,
)
def test_frequencies_are_those_of_the_filtered_distribution(params, implementation):
    vocab, num_draws = 517, 5000
    rng = np.random.default_rng(9)
    logits = np.tile(rng.normal(0, 1.5, (1, vocab)), (num_draws, 1))
    rows = rows_of(logits, **params)
    shares = shares_left(rows.take(np.array([0])))[0]

    tokens = [
        chosen(replace(rows, u=rng.random(num_draws, np.float32)), implementation) for _ in range(8)
    ]

    counts = np.bincount(np.concatenate(tokens), minlength=vocab)
    assert not counts[shares == 0].any()
    # the numbers are fixed, so this either holds for ever or shows a bias
    assert p_value(counts, shares / shares.sum()) > 0.001


def p_value(counts: np.ndarray, probs: np.ndarray) -> float:
    """Of a chi-square test; tokens expected less than ten times are taken together."""
    expected = probs * counts.sum()
    rare = expected < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    seen = expected > 0
    return float(stats.chisquare(observed[seen], expected[seen]).pvalue)


def test_none_picks_an_implementation_that_serves():
    rows = random_rows(300, NUM_ROWS, 10, [0, 0.7, 1, 3])

    assert_as_expected(rows, chosen(rows, None), certain=0.98)


def test_without_native_kernels_the_reference_serves_and_forcing_them_is_refused(monkeypatch):
    monkeypatch.setattr(native, "is_available", lambda: False)
    rows = random_rows(31, 8, 11, [0, 1])
    arrays = [jnp.asarray(getattr(rows, field.name)) for field in fields(rows)]

    assert_as_expected(rows, np.asarray(choose_tokens(*arrays)), certain=0.9)
    with pytest.raises(NotImplementedError, match="native kernels are not available"):
        choose_tokens(*arrays, implementation="native")


def test_an_unknown_implementation_is_refused_with_the_known_ones():
    rows = random_rows(31, 8, 12, [1.0])
    arrays = [jnp.asarray(getattr(rows, field.name)) for field in fields(rows)]

    with pytest.raises(NotImplementedError, match="'cuda'.*reference, native"):
        choose_tokens(*arrays, implementation="cuda")
