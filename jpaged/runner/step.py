"""The device side of serving, whole: one pure function."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jpaged.layers.paged import PageTable
from jpaged.models.base import KVCache
from jpaged.sampling.inputs import SamplingInputs
from jpaged.sampling.sampler import Logprobs, Sampled, sample, token_logprobs
from jpaged.weights.functional import Graph, Params, merge


class StepInput(NamedTuple):
    """T tokens of B sequences.  `sample_at` is the row whose logits give each sequence's next
    token."""

    tokens: Int[jax.Array, " T"]
    table: PageTable
    sample_at: Int[jax.Array, " B"]
    sampling: SamplingInputs


def step(
    graph: Graph, max_logprobs: int, params: Params, kv_pages: KVCache, inputs: StepInput
) -> tuple[KVCache, Sampled, Float[jax.Array, "T E"]]:
    """Runs one scheduled batch: writes its keys and values, returns one token per sequence.

    Also returns the hidden states, from which `score` gives log-probabilities of the prompt.
    """
    model = merge(graph, params)
    hidden, kv_pages = model(inputs.tokens, inputs.table, kv_pages)
    logits = model.logits(hidden[inputs.sample_at]).astype(jnp.float32)
    return kv_pages, sample(logits, inputs.sampling, max_logprobs), hidden


def score(
    graph: Graph,
    max_logprobs: int,
    params: Params,
    hidden: Float[jax.Array, "R E"],
    tokens: Int[jax.Array, " R"],
) -> Logprobs:
    """Log-probabilities of given next tokens at R positions."""
    logits = merge(graph, params).logits(hidden).astype(jnp.float32)
    return token_logprobs(logits, tokens, max_logprobs)
