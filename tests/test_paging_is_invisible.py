"""Tokens depend on the request alone: not on pages, budgets, policies, preemption, the prefix
cache or whoever shares the batch."""

import random
from collections.abc import Iterator

import pytest
from engines import first, greedily, logprobs, random_prompts, stats, tokens_of
from tiny import greedy_of, load_hf

from jpaged import LLM, SamplingParams
from jpaged.policies import NAMES

COUNT = 16
PROMPTS = random_prompts(0, 7, shortest=2, longest=44)
# two begin alike, and one is another's beginning
PROMPTS[5] = PROMPTS[0][:30] + PROMPTS[5][:9]
PROMPTS[6] = PROMPTS[0][:21]

# seats and budgets are chosen so that few different steps are compiled: each takes seconds
BASE = {"page_size": 4, "num_pages": 256, "max_num_seqs": 7, "max_num_batched_tokens": 256}
TIGHT = {"num_pages": 21, "max_model_len": 80, "max_num_seqs": 3, "max_num_batched_tokens": 16}
SETTINGS = {
    "pages of one token": {"page_size": 1, "num_pages": 512},
    "pages of sixteen tokens": {"page_size": 16, "num_pages": 64},
    "a budget of seven tokens": {"max_num_batched_tokens": 7},
    "a budget of sixteen tokens": {"max_num_batched_tokens": 16},
    "a budget of 64 tokens": {"max_num_batched_tokens": 64},
    "a budget of 512 tokens": {"max_num_batched_tokens": 512},
    "whole prompts": {"enable_chunked_prefill": False},
    "no prefix cache": {"enable_prefix_caching": False},
    **{f"policy {name}": {"policy": name, "max_num_batched_tokens": 64} for name in NAMES},
    **{f"policy {name} and hardly any pages": {"policy": name, **TIGHT} for name in NAMES},
}


def seeded(number: int, **params) -> SamplingParams:
    """Random tokens, by filters and penalties of the request's own."""
    return SamplingParams(
        temperature=1.0,
        seed=number,
        max_tokens=COUNT,
        ignore_eos=True,
        top_k=(0, 20)[number % 2],
        top_p=(1.0, 1.0, 0.9)[number % 3],
        presence_penalty=(0.0, 0.0, 0.0, 0.5)[number % 4],
        **params,
    )


# half of the requests are greedy, half of them draw
PARAMS = [seeded(i) if i % 2 else greedily(COUNT) for i in range(len(PROMPTS))]


def build(folder, **options) -> LLM:
    # lazily compiled: only the steps that a test needs
    return LLM(str(folder), **{**BASE, "warmup": "none", **options})


@pytest.fixture(scope="module")
def base(tiny_llama) -> Iterator[LLM]:
    with build(tiny_llama) as llm:
        yield llm


@pytest.fixture(scope="module")
def expected(base) -> list[list[int]]:
    """Each request alone."""
    return [
        tokens_of(base.generate(prompt, params))[0]
        for prompt, params in zip(PROMPTS, PARAMS, strict=True)
    ]


def test_greedy_tokens_are_hugging_faces(tiny_llama, expected):
    model = load_hf(tiny_llama)
    for prompt, params, tokens in zip(PROMPTS, PARAMS, expected, strict=True):
        if params.is_greedy:
            theirs, margin = greedy_of(model, prompt, COUNT)
            assert margin > 1e-4, "rounding could decide; change the seed"
            assert tokens == theirs


@pytest.mark.parametrize("setting", SETTINGS)
def test_tokens_do_not_depend_on(tiny_llama, expected, setting):
    with build(tiny_llama, **SETTINGS[setting]) as llm:
        outputs = llm.generate(PROMPTS, PARAMS)
    assert tokens_of(outputs) == expected
    if "hardly any pages" in setting:
        num_preemptions = sum(stats(output).num_preemptions for output in outputs)
        # Orca sets all aside that a sequence may need, before it starts
        assert (num_preemptions > 0) == ("orca" not in setting)


def test_tokens_do_not_depend_on_the_batch_nor_on_the_place_in_it(tiny_llama, base, expected):
    crowd = [*zip(PROMPTS, PARAMS, strict=True)] * 5
    order = list(range(32))
    random.Random(0).shuffle(order)
    with build(tiny_llama, max_num_seqs=32, max_num_batched_tokens=1024, num_pages=512) as llm:
        prompts, params = zip(*(crowd[i] for i in order), strict=True)
        outputs = llm.generate(prompts, params)
        assert max(record.num_sequences for record in llm.llm_engine.records) == 32
    assert tokens_of(outputs) == [expected[i % 7] for i in order]


def test_samples_of_one_request_do_not_depend_on_the_others(base, tiny_llama):
    alone = base.generate(PROMPTS[1], seeded(1, n=3))[0]
    together = base.generate(PROMPTS, [seeded(1, n=3)] * 7)[1]
    with build(tiny_llama, **{**TIGHT, "num_pages": 20}) as llm:
        preempted = llm.generate(PROMPTS, [seeded(1, n=3)] * 7)
    assert sum(stats(output).num_preemptions for output in preempted) > 0
    for output in (together, preempted[1]):
        assert [s.token_ids for s in output.outputs] == [s.token_ids for s in alone.outputs]


def test_cached_prefixes_change_neither_tokens_nor_logprobs(tiny_llama, base):
    with build(tiny_llama, enable_prefix_caching=False) as llm:
        plain = llm.generate(PROMPTS, greedily(COUNT, logprobs=3))
    for _ in range(2):  # the second time every prompt was seen before
        cached = base.generate(PROMPTS, greedily(COUNT, logprobs=3))
    assert all(output.num_cached_tokens == 0 for output in plain)
    assert all(
        output.num_cached_tokens > 0 for output in cached if len(output.prompt_token_ids) > 4
    )
    assert tokens_of(cached) == tokens_of(plain)
    for one, other in zip(cached, plain, strict=True):
        for found, known in zip(logprobs(first(one)), logprobs(first(other)), strict=True):
            assert {token: entry.logprob for token, entry in found.items()} == pytest.approx(
                {token: entry.logprob for token, entry in known.items()}, abs=1e-5
            )


def test_a_prompt_goes_on_from_another_requests_output(base, expected):
    prompt, tokens = PROMPTS[0], expected[0]
    output = base.generate(prompt + tokens[:8], greedily(COUNT - 8))[0]
    assert first(output).token_ids == tokens[8:]
    assert output.num_cached_tokens > len(prompt)
