"""Models whose layers all look back a window only: pages behind it are given back."""

from typing import Any

import pytest
from engines import a_llm, greedily, num_held_pages, random_prompts, tokens_of
from tiny import greedy_of, load_hf, save_tiny
from tiny_configs import CASES

from jpaged import LLM, SamplingParams

CASE = "mistral: window, wide heads"
WINDOW, COUNT = 20, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Any:
    assert CASES[CASE].sliding_window == WINDOW
    return save_tiny(tmp_path_factory.mktemp("window"), CASES[CASE], seed=3)


@pytest.fixture(scope="module")
def oracle(folder) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts longer and shorter than the window, and what transformers says."""
    model = load_hf(folder)
    prompts = [[token % 101 for token in prompt] for prompt in random_prompts(800, 4, 5, 60)]
    theirs, margins = zip(*(greedy_of(model, prompt, COUNT) for prompt in prompts), strict=True)
    assert min(margins) > 1e-4, "a near-tie proves nothing: choose another seed"
    return prompts, list(theirs)


def an_llm(folder: Any, **options: Any) -> LLM:
    sizes = {"max_model_len": 128, "skip_tokenizer_init": True, "warmup": "none"}
    return a_llm(folder, **{**sizes, **options})


@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_tokens_are_those_of_transformers_on_the_windows_pages(folder, oracle, page_size):
    prompts, theirs = oracle
    with an_llm(folder, page_size=page_size, num_pages=512 // page_size) as llm:
        outputs = llm.generate(prompts, greedily(COUNT), use_tqdm=False)
        records = llm.llm_engine.records

        assert tokens_of(outputs) == theirs

        # the window, the token further back that a fork would look at, and the pages at its ends
        most = 4 * (-(-(WINDOW + 1) // page_size) + 2)
        decoding = [r for r in records if r.num_tokens == r.num_sequences == 4]
        assert max(record.pages_held for record in decoding[3:]) <= most
        assert num_held_pages(llm.llm_engine) == 0


@pytest.mark.parametrize("num_host_pages", [None, 60])
def test_preempted_sequences_come_back_right(folder, oracle, num_host_pages):
    prompts, theirs = oracle
    with an_llm(folder, page_size=16, num_pages=8, num_host_pages=num_host_pages) as llm:
        assert tokens_of(llm.generate(prompts, greedily(COUNT), use_tqdm=False)) == theirs
        counts = llm.llm_engine.stats().counts
    assert counts.num_preemptions > 0
    assert (counts.num_pages_swapped_in > 0) == (num_host_pages is not None)


def test_a_prompt_is_found_again_although_its_pages_were_given_back(folder, oracle):
    prompts, theirs = oracle
    longest = max(prompts, key=len)
    with an_llm(folder) as llm:
        for _ in range(2):
            [output] = llm.generate([longest], greedily(COUNT), use_tqdm=False)
            assert output.outputs[0].token_ids == theirs[prompts.index(longest)]
        assert output.num_cached_tokens == len(longest) - 1


def test_samples_share_what_they_still_look_at(folder, oracle):
    prompts, _ = oracle
    params = SamplingParams(n=3, seed=4, max_tokens=40, ignore_eos=True)
    found = []
    for options in ({}, {"max_num_seqs": 2}, {"enable_prefix_caching": False, "page_size": 1}):
        with an_llm(folder, num_pages=512, **options) as llm:
            outputs = llm.generate(prompts, params, use_tqdm=False)
            found.append([[s.token_ids for s in output.outputs] for output in outputs])
    assert found[0] == found[1] == found[2]
