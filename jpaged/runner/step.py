"""The device side of serving, whole: one pure function."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jpaged.layers.paged import PageTable
from jpaged.models.base import KVCache
from jpaged.sampling.inputs import DrawInputs, SamplingInputs
from jpaged.sampling.sampler import Logprobs, Sampled, choose, sample, token_logprobs
from jpaged.weights.functional import Graph, Params, merge
from jpaged.weights.packed import Rows, bind_rows


class StepInput(NamedTuple):
    """T tokens of B sequences.  `sample_at` is the row whose logits give each sequence's next
    token; num_sequences of them are no padding.

    from_previous: where a token is not known yet, the row of the step before that answers with
    it; else -1.
    """

    tokens: Int[jax.Array, " T"]
    from_previous: Int[jax.Array, " T"]
    table: PageTable
    sample_at: Int[jax.Array, " B"]
    num_sequences: Int[jax.Array, ""]
    draw: DrawInputs


class Answer(NamedTuple):
    """What a step says.  `tokens` has a row for every seat of the engine, so that the next step,
    of whatever shape, can take its unknown tokens from there.

    From `logits`, `resample` chooses with penalties and the like; from `hidden`, `score` gives
    log-probabilities of the prompt.
    """

    tokens: Int[jax.Array, " R"]
    logits: Float[jax.Array, "B V"]
    hidden: Float[jax.Array, "T E"]


def step(
    graph: Graph,
    params: Params,
    kv_pages: KVCache,
    previous: Int[jax.Array, " R"],
    inputs: StepInput,
) -> tuple[KVCache, Answer]:
    """Runs one scheduled batch: writes its keys and values, returns one token per sequence.

    previous: the tokens of the step before.
    """
    rows = Rows(inputs.table.query_starts[-1], inputs.num_sequences)
    model = merge(graph, bind_rows(params, rows, inputs.tokens.shape[0]))
    is_known = inputs.from_previous < 0
    tokens = jnp.where(is_known, inputs.tokens, previous[inputs.from_previous])
    hidden, kv_pages = model(tokens, inputs.table, kv_pages)
    logits = model.logits(hidden[inputs.sample_at]).astype(jnp.float32)
    said = _seated(choose(logits, inputs.draw), previous)
    return kv_pages, Answer(said, logits, hidden)


def resample(
    max_logprobs: int,
    logits: Float[jax.Array, "B V"],
    previous: Int[jax.Array, " R"],
    inputs: SamplingInputs,
) -> Sampled:
    """Chooses again, with what few requests ask for: it would make every step larger."""
    said, logprobs = sample(logits, inputs, max_logprobs)
    return Sampled(_seated(said, previous), logprobs)


def _seated(tokens: Int[jax.Array, " B"], like: Int[jax.Array, " R"]) -> Int[jax.Array, " R"]:
    return jnp.zeros_like(like).at[: tokens.shape[0]].set(tokens)


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
