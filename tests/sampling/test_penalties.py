"""Penalties, biases and bans, packed from real sequences, against Hugging Face and OpenAI."""

from collections import Counter

import jax
import numpy as np
import pytest
import torch
from sampling_rows import EOS, a_sequence, inputs_of, random_logits
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jpaged.runner.sampling_rows import banned_tokens
from jpaged.sampling.penalties import adjust
from jpaged.scheduling.request import Sequence
from pallas_kernels.token_choice.filters import keep_likely

VOCAB = 67  # three words of bits, the last one hardly begun
adjusted = jax.jit(adjust)


def ours(logits: np.ndarray, sequences: list[Sequence]) -> np.ndarray:
    return np.asarray(adjusted(logits, inputs_of(sequences, logits.shape[1])))


def hf(logits: np.ndarray, tokens: list[int], *processors: LogitsProcessor) -> np.ndarray:
    run = LogitsProcessorList(processors)
    return run(torch.LongTensor([tokens]), torch.tensor(logits)[None])[0].numpy()


def random_tokens(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(1, VOCAB, count).tolist()


def test_repetition_penalty_is_hugging_faces():
    factors = [1.0, 1.3, 0.7, 5.0]
    sequences = [
        a_sequence(random_tokens(i, 5), random_tokens(i + 9, i), repetition_penalty=factor)
        for i, factor in enumerate(factors)
    ]
    logits = random_logits(0, len(factors), VOCAB)
    result = ours(logits, sequences)
    for row, (sequence, factor) in enumerate(zip(sequences, factors, strict=True)):
        expected = hf(logits[row], sequence.tokens, RepetitionPenaltyLogitsProcessor(factor))
        np.testing.assert_allclose(result[row], expected, rtol=1e-6)


def test_presence_and_frequency_are_openais_formula_over_the_output():
    logits = random_logits(1, 3, VOCAB)
    settings = [(0.0, 0.0), (1.5, 0.3), (-2.0, 2.0)]
    sequences = [
        a_sequence([7, 7, 8], [5, 5, 5, 8, 9], presence_penalty=p, frequency_penalty=f)
        for p, f in settings
    ]
    result = ours(logits, sequences)
    for row, (presence, frequency) in enumerate(settings):
        expected = logits[row].copy()
        for token, count in Counter([5, 5, 5, 8, 9]).items():  # the prompt's 7 is not among them
            expected[token] -= count * frequency + presence
        np.testing.assert_allclose(result[row], expected, rtol=1e-6, atol=1e-6)


def test_a_row_without_penalties_is_untouched_beside_one_that_has_them():
    logits = random_logits(2, 2, VOCAB)
    plain = a_sequence([1, 2], [3, 3])
    result = ours(logits, [plain, a_sequence([1, 2], [3, 3], frequency_penalty=1.0)])
    np.testing.assert_array_equal(result[0], logits[0])
    assert result[1, 3] == logits[1, 3] - 2


def test_penalties_count_a_history_that_fills_the_context():
    sequence = a_sequence([4] * 8, [5] * 39, frequency_penalty=0.5)  # 47 of 48 tokens
    result = ours(np.zeros((1, VOCAB), np.float32), [sequence])
    assert result[0, 5] == -19.5
    assert np.count_nonzero(result) == 1


def test_biases_are_added_and_clamped():
    logits = random_logits(3, 2, VOCAB)
    biased = a_sequence([1], logit_bias={0: 2.5, 66: -1000, 33: float("inf")})
    result = ours(logits, [a_sequence([1]), biased])
    np.testing.assert_array_equal(result[0], logits[0])
    change = result[1] - logits[1]
    assert change[[0, 33, 66]] == pytest.approx([2.5, 100, -100], abs=1e-5)
    assert np.count_nonzero(change) == 3


@pytest.mark.parametrize("allowed", [[0], [31, 32], [5, 63, 64, 66], list(range(VOCAB))])
def test_only_allowed_tokens_are_left(allowed):
    result = ours(random_logits(4, 1, VOCAB), [a_sequence([1], allowed_token_ids=allowed)])
    assert np.flatnonzero(np.isfinite(result[0])).tolist() == allowed


@pytest.mark.parametrize(
    "generated", [[], [10], [9, 10], [10, 11], [8, 10, 11], [11, 10], [10, 11, 10, 11]]
)
def test_bad_words_of_one_and_several_tokens_are_hugging_faces(generated):
    words = ((40,), (10, 12), (10, 11, 13))
    logits = random_logits(5, 1, VOCAB)
    # a word's beginning counts in the output alone: the prompt ends with one
    result = ours(logits, [a_sequence([10, 11], generated, bad_words=words)])
    processor = NoBadWordsLogitsProcessor([list(word) for word in words])
    context = generated or [1]  # Hugging Face needs one token
    np.testing.assert_allclose(result[0], hf(logits[0], context, processor), rtol=1e-6)


@pytest.mark.parametrize("num_generated", [0, 2, 3, 4])
def test_stop_tokens_are_masked_until_min_tokens_as_hugging_face_does(num_generated):
    logits = random_logits(6, 1, VOCAB)
    sequence = a_sequence(
        [1, 2], [5] * num_generated, min_tokens=3, max_tokens=9, stop_token_ids=[17, 64]
    )
    processor = MinNewTokensLengthLogitsProcessor(2, 3, [EOS, 17, 64])
    expected = hf(logits[0], sequence.tokens, processor)
    np.testing.assert_array_equal(ours(logits, [sequence])[0], expected)


def test_min_tokens_leaves_an_ignored_eos_alone():
    logits = random_logits(7, 1, VOCAB)
    sequence = a_sequence([1], min_tokens=3, ignore_eos=True)
    np.testing.assert_array_equal(ours(logits, [sequence]), logits)


def test_all_of_it_together_is_hugging_faces_order():
    logits = random_logits(8, 1, VOCAB)
    sequence = a_sequence(
        [4, 5, 6], [7, 8], ((8, 9), (20,)),
        repetition_penalty=1.4, min_tokens=4, temperature=0.6, top_k=30, top_p=0.9,
    )  # fmt: skip
    inputs = inputs_of([sequence], VOCAB)
    draw = inputs.draw
    warm = adjusted(logits, inputs) / draw.temperature[:, None]
    result = keep_likely(warm, draw.top_k, draw.top_p, draw.min_p)
    expected = hf(
        logits[0],
        sequence.tokens,
        RepetitionPenaltyLogitsProcessor(1.4),
        NoBadWordsLogitsProcessor([[8, 9], [20]]),
        MinNewTokensLengthLogitsProcessor(3, 4, EOS),
        TemperatureLogitsWarper(0.6),
        TopKLogitsWarper(30),
        TopPLogitsWarper(0.9),
    )
    np.testing.assert_allclose(result[0], expected, rtol=1e-5)


def test_bans_that_leave_nothing_give_way_to_the_allowed_tokens():
    # else every logit is -inf, and the choice would fall on token 0, which nobody allowed
    sequence = a_sequence([1], [9], bad_words=((9, 9),), allowed_token_ids=[9])
    result = ours(random_logits(9, 1, VOCAB), [sequence])
    assert list(banned_tokens(sequence)) == [9]
    assert np.flatnonzero(np.isfinite(result[0])).tolist() == [9]
