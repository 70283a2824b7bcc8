"""What pushes logits up or down before a token is chosen: bans, biases, penalties."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jpaged.sampling.inputs import SamplingInputs

Logits = Float[jax.Array, "B V"]


def adjust(logits: Logits, inputs: SamplingInputs) -> Logits:
    """Applies what the step's rows use, nothing where no row uses it."""
    uses = inputs.uses
    logits = _when(uses.biases, add_biases, logits, inputs)
    logits = _when(uses.penalties, penalise, logits, inputs)
    return _when(uses.bans, ban, logits, inputs)


def _when(flag, change, logits, inputs):
    return jax.lax.cond(flag, change, lambda logits, _: logits, logits, inputs)


def ban(logits: Logits, inputs: SamplingInputs) -> Logits:
    """-inf wherever the row's bit is not set."""
    token = jnp.arange(logits.shape[1], dtype=jnp.uint32)
    words = inputs.allowed[:, token // 32]
    return jnp.where((words >> (token % 32)) & 1, logits, -jnp.inf)


def add_biases(logits: Logits, inputs: SamplingInputs) -> Logits:
    rows = jnp.arange(logits.shape[0])[:, None]
    # unused entries have an id past the vocabulary
    return logits.at[rows, inputs.bias_ids].add(inputs.bias_values, mode="drop")


def penalise(logits: Logits, inputs: SamplingInputs) -> Logits:
    """Repetition (Keskar et al., "CTRL", 2019) over prompt and output; presence and frequency,
    as OpenAI defines them, over the output."""
    place = jnp.arange(inputs.history.shape[1])
    is_output = place >= inputs.num_prompt[:, None]
    appeared = _count(logits, inputs.history, jnp.ones_like(is_output)) > 0
    outputs = _count(logits, inputs.history, is_output)
    factor = inputs.repetition_penalty[:, None]
    repeated = jnp.where(logits > 0, logits / factor, logits * factor)
    logits = jnp.where(appeared, repeated, logits)
    logits -= inputs.frequency_penalty[:, None] * outputs
    return logits - inputs.presence_penalty[:, None] * (outputs > 0)


def _count(like: Logits, tokens: Int[jax.Array, "B C"], counted: jax.Array) -> Logits:
    """How often each token stands in each row."""
    rows = jnp.arange(like.shape[0])[:, None]
    # -1 would count from the end, so padding is sent past it
    tokens = jnp.where(tokens < 0, like.shape[1], tokens)
    return jnp.zeros_like(like).at[rows, tokens].add(counted.astype(like.dtype), mode="drop")
