"""What the sampler needs to know of each row: B sequences, V vocabulary, C context, M biases."""

from typing import NamedTuple

import jax
from jaxtyping import Bool, Float, Int, UInt32


class DrawInputs(NamedTuple):
    """What every step needs.  temperature 0 is greedy; top_k 0 keeps all.  `seed` and `position`
    key the randomness.  is_random: whether any row is not greedy."""

    temperature: Float[jax.Array, " B"]
    top_k: Int[jax.Array, " B"]
    top_p: Float[jax.Array, " B"]
    min_p: Float[jax.Array, " B"]
    seed: UInt32[jax.Array, " B"]
    position: Int[jax.Array, " B"]
    is_random: Bool[jax.Array, ""]


class Uses(NamedTuple):
    """Which features any row asks for; the others are skipped at run time."""

    penalties: Bool[jax.Array, ""]
    biases: Bool[jax.Array, ""]
    bans: Bool[jax.Array, ""]
    logprobs: Bool[jax.Array, ""]


class SamplingInputs(NamedTuple):
    """What few steps need beside: penalties, biases, bans, log-probabilities.

    history: every token so far, -1 beyond; num_prompt of them are the prompt.  logprobs_divisor:
    of the logits, for the log-probabilities alone; 1 for most.  allowed: one bit
    a token, 32 to a word, least significant first.
    """

    draw: DrawInputs
    repetition_penalty: Float[jax.Array, " B"]
    presence_penalty: Float[jax.Array, " B"]
    frequency_penalty: Float[jax.Array, " B"]
    num_prompt: Int[jax.Array, " B"]
    logprobs_divisor: Float[jax.Array, " B"]
    history: Int[jax.Array, "B C"]
    bias_ids: Int[jax.Array, "B M"]
    bias_values: Float[jax.Array, "B M"]
    allowed: UInt32[jax.Array, "B W"]
    uses: Uses
