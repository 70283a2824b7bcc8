"""Rows of a batch as the sampler sees them, packed from sequences as an engine packs them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jpaged.runner.step_input import StepPacker
from jpaged.sampling.inputs import SamplingInputs
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.request import Request, Sequence

MAX_MODEL_LEN = 48
EOS = 0


def a_sequence(
    prompt: list[int],
    generated: list[int] | None = None,
    bad_words: tuple[tuple[int, ...], ...] = (),
    **params: Any,
) -> Sequence:
    """A sequence in the middle of its generation."""
    request = Request(
        id="a",
        prompt=tuple(prompt),
        params=SamplingParams(**params),
        eos_token_ids=frozenset([EOS]),
        bad_words=bad_words,
    )
    sequence = Sequence(request)
    sequence.tokens += generated or []
    return sequence


def inputs_of(sequences: list[Sequence], vocab: int) -> SamplingInputs:
    """What the step would get for these sequences, one row each and no padding."""
    packer = StepPacker(64, 4, vocab, MAX_MODEL_LEN, max_num_seqs=len(sequences))
    batch = ScheduledBatch(tuple((sequence, sequence.num_pending) for sequence in sequences))
    bucket = Bucket(batch.num_tokens, batch.num_sequences, MAX_MODEL_LEN // 4)
    inputs, sampling, _ = packer.pack(batch, bucket)
    if sampling is None:  # then drawing is all there is to do
        sampling = packer.sampling.blank(batch.num_sequences)._replace(draw=inputs.draw)
    return jax.tree.map(jnp.asarray, sampling)


def random_logits(seed: int, num_rows: int, vocab: int, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (num_rows, vocab)).astype(np.float32)
