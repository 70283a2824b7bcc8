"""logits [B, V] -> tokens [B].

A row's randomness is keyed by its seed and position alone, so it gives the same token whatever
shares the batch and wherever in the batch it stands.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jpaged.sampling.filters import keep_likely
from jpaged.sampling.inputs import SamplingInputs
from jpaged.sampling.penalties import adjust

Logits = Float[jax.Array, "B V"]
SEGMENT = 128  # tokens summed together before the cumulative sum


class Logprobs(NamedTuple):
    """Of the raw distribution, before penalties and temperature.  rank 1 is the likeliest."""

    chosen: Float[jax.Array, " B"]
    rank: Int[jax.Array, " B"]
    top: Float[jax.Array, "B K"]
    top_tokens: Int[jax.Array, "B K"]


class Sampled(NamedTuple):
    tokens: Int[jax.Array, " B"]
    logprobs: Logprobs


def sample(logits: Logits, inputs: SamplingInputs, max_logprobs: int) -> Sampled:
    """Chooses one token a row.  `logprobs` are zeros where no row uses them."""
    adjusted = adjust(logits, inputs)
    tokens = jax.lax.cond(
        inputs.uses.randomness, choose, lambda logits, _: greedy(logits), adjusted, inputs
    )
    blank = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(_logprobs(max_logprobs), logits, tokens),
    )
    logprobs = jax.lax.cond(
        inputs.uses.logprobs, _logprobs(max_logprobs), lambda *_: blank, logits, tokens
    )
    return Sampled(tokens, logprobs)


def greedy(logits: Logits) -> Int[jax.Array, " B"]:
    """The first of the largest.  `argmax` is six times slower on XLA:CPU."""
    V = logits.shape[1]
    is_largest = logits == logits.max(axis=-1, keepdims=True)
    first = jnp.min(jnp.where(is_largest, jnp.arange(V, dtype=jnp.int32), V), axis=-1)
    return jnp.minimum(first, V - 1)  # a row of NaN has no largest


def choose(logits: Logits, inputs: SamplingInputs) -> Int[jax.Array, " B"]:
    """Draws from the filtered distribution; rows of temperature 0 stay greedy."""
    is_greedy = inputs.temperature == 0
    warm = logits / jnp.where(is_greedy, 1, inputs.temperature)[:, None]
    warm = jax.lax.cond(
        inputs.uses.filters,
        lambda x: keep_likely(x, inputs.top_k, inputs.top_p, inputs.min_p),
        lambda x: x,
        warm,
    )
    drawn = draw(warm, uniform(inputs.seed, inputs.position))
    return jnp.where(is_greedy, greedy(logits), drawn)


def uniform(seed: jax.Array, position: jax.Array) -> Float[jax.Array, " B"]:
    """One number in [0, 1) for each (seed, position)."""

    def one(seed, position):
        return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), position))

    return jax.vmap(one)(seed, position)


def draw(logits: Logits, u: Float[jax.Array, " B"]) -> Int[jax.Array, " B"]:
    """The token at which the cumulative distribution passes u.

    In two levels, because one number a row is far cheaper than V Gumbel ones and a long
    cumulative sum is slow: first the segment of 128 tokens, then the token in it.
    """
    B, V = logits.shape
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    weights = jnp.pad(weights, ((0, 0), (0, -V % SEGMENT))).reshape(B, -1, SEGMENT)
    masses = weights.sum(axis=-1)
    up_to = jnp.cumsum(masses, axis=-1)
    target = u * up_to[:, -1]
    segment = _first_above(up_to, target, masses > 0)
    before = jnp.where(segment > 0, _at(up_to, jnp.maximum(segment - 1, 0)), 0)
    inside = jnp.take_along_axis(weights, segment[:, None, None], axis=1)[:, 0]
    offset = _first_above(jnp.cumsum(inside, axis=-1), target - before, inside > 0)
    return jnp.minimum(segment * SEGMENT + offset, V - 1)


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


def _logprobs(max_logprobs: int):
    return lambda logits, tokens: token_logprobs(logits, tokens, max_logprobs)


def token_logprobs(logits: Logits, tokens: Int[jax.Array, " B"], most: int) -> Logprobs:
    """Log-probability and rank of given tokens, and the `most` likeliest beside them."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = _at(log_probs, tokens)
    rank = 1 + jnp.sum(log_probs > chosen[:, None], axis=-1)
    top, top_tokens = jax.lax.top_k(log_probs, min(most, logits.shape[1]))
    return Logprobs(chosen, rank, top, top_tokens)
