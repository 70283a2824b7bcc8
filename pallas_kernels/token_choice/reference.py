"""Drawing a token from each row's filtered distribution, in plain XLA: it defines what is right."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from pallas_kernels.token_choice.filters import keep_likely

Logits = Float[jax.Array, "B V"]
SEGMENT = 128  # tokens looked at together


def choose(
    logits: Logits,
    u: Float[jax.Array, " B"],
    temperature: Float[jax.Array, " B"],
    top_k: Int[jax.Array, " B"],
    top_p: Float[jax.Array, " B"],
    min_p: Float[jax.Array, " B"],
) -> Int[jax.Array, " B"]:
    """See `choose_tokens`."""
    is_greedy = temperature == 0
    warm = logits / jnp.where(is_greedy, 1, temperature)[:, None]
    has_filters = jnp.any((top_k > 0) | (top_p < 1) | (min_p > 0))
    warm = jax.lax.cond(
        has_filters, lambda x: keep_likely(x, top_k, top_p, min_p), lambda x: x, warm
    )
    return jnp.where(is_greedy, greedy(logits), draw(warm, u))


def greedy(logits: Logits) -> Int[jax.Array, " B"]:
    """The first of the largest.

    In two levels: a maximum over 128 tokens of all rows at once uses every lane and core, where
    XLA:CPU's `argmax` is twenty times slower.
    """
    V = logits.shape[1]
    segments = _in_segments(logits, -jnp.inf)
    tops = segments.max(axis=-1)
    top = tops.max(axis=-1, keepdims=True)
    segment = _first(tops == top)
    inside = jnp.take_along_axis(segments, segment[:, None, None], axis=1)[:, 0]
    # a row of NaN has no largest
    return jnp.minimum(segment * SEGMENT + _first(inside == top), V - 1)


def _first(found: jax.Array) -> Int[jax.Array, " B"]:
    """The first true place of each row, or the row's length."""
    size = found.shape[1]
    return jnp.min(jnp.where(found, jnp.arange(size, dtype=jnp.int32), size), axis=-1)


def draw(logits: Logits, u: Float[jax.Array, " B"]) -> Int[jax.Array, " B"]:
    """The token at which the cumulative distribution passes u.

    In two levels, because one number a row is far cheaper than V Gumbel ones and a long
    cumulative sum is slow: first the segment of 128 tokens, then the token in it.
    """
    V = logits.shape[1]
    weights = _in_segments(jnp.exp(logits - logits.max(axis=-1, keepdims=True)), 0.0)
    masses = weights.sum(axis=-1)
    up_to = jnp.cumsum(masses, axis=-1)
    target = u * up_to[:, -1]
    segment = _first_above(up_to, target, masses > 0)
    before = jnp.where(segment > 0, _at(up_to, jnp.maximum(segment - 1, 0)), 0)
    inside = jnp.take_along_axis(weights, segment[:, None, None], axis=1)[:, 0]
    offset = _first_above(jnp.cumsum(inside, axis=-1), target - before, inside > 0)
    return jnp.minimum(segment * SEGMENT + offset, V - 1)


def _in_segments(rows: Logits, fill: float) -> Float[jax.Array, "B M 128"]:
    B, V = rows.shape
    return jnp.pad(rows, ((0, 0), (0, -V % SEGMENT)), constant_values=fill).reshape(B, -1, SEGMENT)


def _first_above(cumulative: jax.Array, target: jax.Array, is_possible: jax.Array) -> jax.Array:
    """The first possible index whose cumulative sum passes the target, else the last possible.

    A sum made by a tree is not quite monotone: it may rise by a rounding error where the weight
    is zero, or end below the target.
    """
    size = cumulative.shape[1]
    places = jnp.arange(size)
    passes = is_possible & (cumulative > target[:, None])
    first = jnp.min(jnp.where(passes, places, size), axis=-1)
    last = jnp.max(jnp.where(is_possible, places, 0), axis=-1)
    return jnp.minimum(first, last)


def _at(rows: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(rows, index[:, None], axis=1)[:, 0]
