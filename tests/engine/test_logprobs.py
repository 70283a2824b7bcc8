"""Log-probabilities of output and prompt are Hugging Face's, within float32's rounding."""

import math

import numpy as np
import pytest
from engines import first, greedily, logprobs, prompt_logprobs, random_prompts
from tiny import logits_of

from jpaged import SamplingParams

CLOSE = 1e-4  # two frameworks, sums in another order


def log_probs(hf_model, tokens: list[int]) -> np.ndarray:
    """[T, V]: of the token after each position."""
    wide = logits_of(hf_model, tokens).double().numpy()
    wide -= wide.max(axis=1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))


def assert_position(found, row: np.ndarray, chosen: int, most: int) -> None:
    """One position's entries: the chosen token and the `most` likeliest, likeliest first."""
    assert row[chosen] == pytest.approx(found[chosen].logprob, abs=CLOSE)
    above = int(np.sum(row > row[chosen] + CLOSE))
    assert above < found[chosen].rank <= 1 + int(np.sum(row > row[chosen] - CLOSE))
    assert len(found) in (most, most + 1) if most else len(found) == 1
    ranked = sorted((entry.rank, entry.logprob) for entry in found.values())
    assert [rank for rank, _ in ranked[:most]] == list(range(1, most + 1))
    expected = np.sort(row)[::-1][:most]
    np.testing.assert_allclose([logprob for _, logprob in ranked[:most]], expected, atol=CLOSE)


@pytest.mark.parametrize("most", [0, 1, 5, 20])
def test_logprobs_of_the_output_are_hugging_faces(llm, hf_model, most):
    prompts = random_prompts(50, 3)
    params = SamplingParams(logprobs=most, seed=1, max_tokens=8, ignore_eos=True)
    for prompt, output in zip(prompts, llm.generate(prompts, params), strict=True):
        sample = first(output)
        rows = log_probs(hf_model, prompt + sample.token_ids)[len(prompt) - 1 :]
        for found, row, token in zip(logprobs(sample), rows, sample.token_ids, strict=False):
            assert_position(found, row, token, most)
        assert len(logprobs(sample)) == 8


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 70, 127])
def test_logprobs_of_the_prompt_are_hugging_faces(llm, hf_model, length):
    prompt = random_prompts(51, 1, length, length)[0]  # the budget is 32: longer ones are chunked
    output = llm.generate(prompt, greedily(1, prompt_logprobs=3))[0]
    found = prompt_logprobs(output)
    assert len(found) == length and (output.prompt_logprobs or found)[0] is None
    rows = log_probs(hf_model, prompt)
    for place in range(1, length):
        assert_position(found[place], rows[place - 1], prompt[place], 3)


def test_prompt_logprobs_are_complete_although_the_prefix_is_cached(llm):
    prompt = random_prompts(52, 1, 40, 40)[0]
    plain = llm.generate(prompt, greedily())[0]
    scored = llm.generate(prompt, greedily(prompt_logprobs=0))[0]
    assert [len(entry) for entry in prompt_logprobs(scored)] == [0] + [1] * 39
    assert first(scored).token_ids == first(plain).token_ids


def test_cumulative_logprob_is_the_sum_for_each_sample(llm):
    params = SamplingParams(n=3, seed=4, logprobs=0, prompt_logprobs=0, max_tokens=6)
    output = llm.generate(random_prompts(53, 1)[0], params)[0]
    for sample in output.outputs:
        steps = zip(logprobs(sample), sample.token_ids, strict=True)
        total = math.fsum(entry[token].logprob for entry, token in steps)
        assert sample.cumulative_logprob == pytest.approx(total, abs=1e-6)


def test_nobody_pays_for_logprobs_that_another_asked_for(llm):
    asked, plain = llm.generate(random_prompts(54, 2), [greedily(logprobs=2), greedily()])
    assert first(plain).logprobs is None and first(plain).cumulative_logprob is None
    assert plain.prompt_logprobs is None
    assert len(logprobs(first(asked))) == 8


def test_entries_carry_the_text_of_their_token(llm):
    output = llm.generate("Once upon", greedily(3, logprobs=2, prompt_logprobs=1))[0]
    tokenizer = llm.get_tokenizer()
    for position in (*logprobs(first(output)), *prompt_logprobs(output)):
        for token, entry in position.items():
            assert entry.decoded_token == tokenizer.decode([token])
