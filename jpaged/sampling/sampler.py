"""logits [B, V] -> tokens [B].

A row's randomness is keyed by its seed and position alone, so it gives the same token whatever
shares the batch and wherever in the batch it stands.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jpaged.sampling.inputs import DrawInputs, SamplingInputs
from jpaged.sampling.penalties import adjust
from pallas_kernels.token_choice import choose_tokens, greedy

Logits = Float[jax.Array, "B V"]


class Logprobs(NamedTuple):
    """Of the raw distribution, before penalties and temperature (but for a beam search's own
    temperature).  rank 1 is the likeliest."""

    chosen: Float[jax.Array, " B"]
    rank: Int[jax.Array, " B"]
    top: Float[jax.Array, "B K"]
    top_tokens: Int[jax.Array, "B K"]


class Sampled(NamedTuple):
    tokens: Int[jax.Array, " B"]
    logprobs: Logprobs


def sample(logits: Logits, inputs: SamplingInputs, max_logprobs: int) -> Sampled:
    """Chooses one token a row after all adjustments.  `logprobs` are zeros where no row uses
    them."""
    tokens = choose(adjust(logits, inputs), inputs.draw)

    def logprobs() -> Logprobs:
        return token_logprobs(logits / inputs.logprobs_divisor[:, None], tokens, max_logprobs)

    blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(logprobs))
    return Sampled(tokens, jax.lax.cond(inputs.uses.logprobs, logprobs, lambda: blank))


def choose(logits: Logits, inputs: DrawInputs) -> Int[jax.Array, " B"]:
    """Draws from the filtered distribution; rows of temperature 0 are greedy."""
    # outside the branches, which XLA:CPU runs on one core
    likeliest = greedy(logits)
    return jax.lax.cond(inputs.is_random, lambda: _draw(logits, inputs), lambda: likeliest)


def _draw(logits: Logits, inputs: DrawInputs) -> Int[jax.Array, " B"]:
    return choose_tokens(
        logits,
        uniform(inputs.seed, inputs.position),
        inputs.temperature,
        inputs.top_k,
        inputs.top_p,
        inputs.min_p,
    )


def uniform(seed: jax.Array, position: jax.Array) -> Float[jax.Array, " B"]:
    """One number in [0, 1) for each (seed, position)."""

    def one(seed, position):
        return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), position))

    return jax.vmap(one)(seed, position)


def token_logprobs(logits: Logits, tokens: Int[jax.Array, " B"], most: int) -> Logprobs:
    """Log-probability and rank of given tokens, and the `most` likeliest beside them."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = jnp.take_along_axis(log_probs, tokens[:, None], axis=1)[:, 0]
    rank = 1 + jnp.sum(log_probs > chosen[:, None], axis=-1)
    top, top_tokens = jax.lax.top_k(log_probs, min(most, logits.shape[1]))
    return Logprobs(chosen, rank, top, top_tokens)
