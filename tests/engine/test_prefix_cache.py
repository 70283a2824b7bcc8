"""The prefix cache through the engine: hits change nothing but the time, and are counted."""

from collections.abc import Iterator
from typing import Any

import pytest
from engines import an_engine, first, greedily, last, logprobs, random_prompts

from jpaged import LLMEngine, RequestRejected

COUNT = 10


@pytest.fixture(params=[4, 16], ids=["plain XLA", "C++ kernels"], scope="module")
def engine(request, tiny_llama) -> Iterator[LLMEngine]:
    size = request.param
    engine = an_engine(
        tiny_llama, page_size=size, num_pages=512 // size, max_model_len=128, warmup="none"
    )
    yield engine
    engine.close()


def ask(engine: LLMEngine, prompt: Any, **params: Any) -> Any:
    engine.add_request("a", prompt, greedily(COUNT, logprobs=3, **params))
    return last(engine)["a"]


def assert_same(mine: Any, other: Any) -> None:
    assert first(mine).token_ids == first(other).token_ids
    for one, two in zip(logprobs(first(mine)), logprobs(first(other)), strict=True):
        assert {token: each.logprob for token, each in one.items()} == pytest.approx(
            {token: each.logprob for token, each in two.items()}, abs=1e-5
        )


@pytest.mark.parametrize("num_common", [0, 1, 5, 16, 17, 24, 31, 32, 33, 39, 40])
def test_a_hit_of_any_length_changes_neither_tokens_nor_logprobs(engine, num_common):
    one, other = random_prompts(900, 2, 40, 40)
    prompt = [*one[:num_common], *other[num_common:]]
    engine.reset_prefix_cache()
    cold = ask(engine, prompt)
    assert cold.num_cached_tokens == 0
    engine.reset_prefix_cache()
    ask(engine, one)

    warm = ask(engine, prompt)

    assert_same(warm, cold)
    size = engine.config.page_size
    full = num_common // size * size
    # the rest of a page pays from a quarter of it on
    expected = num_common if 4 * (num_common - full) >= size else full
    assert warm.num_cached_tokens == min(expected, len(prompt) - 1)


def test_the_next_turn_of_a_chat_finds_prompt_and_answer(engine):
    engine.reset_prefix_cache()
    prompt = random_prompts(901, 1, 37, 37)[0]
    answer = first(ask(engine, prompt)).token_ids

    turn = ask(engine, [*prompt, *answer, 9, 8, 7])

    # all but the answer's last token, which was never computed
    size, known = engine.config.page_size, len(prompt) + len(answer) - 1
    assert turn.num_cached_tokens == (known if 4 * (known % size) >= size else known // size * size)
    engine.reset_prefix_cache()
    assert_same(turn, ask(engine, [*prompt, *answer, 9, 8, 7]))


def test_salts_keep_tenants_apart(engine):
    engine.reset_prefix_cache()
    prompt = random_prompts(902, 1, 33, 33)[0]
    asked = [{"prompt_token_ids": prompt, "cache_salt": salt} for salt in ("a", "b", "a")]

    outputs = [ask(engine, each) for each in asked]

    assert [output.num_cached_tokens for output in outputs] == [0, 0, 32]
    assert_same(outputs[0], outputs[2])


@pytest.mark.parametrize("salt", ["", 5, None])
def test_a_salt_that_is_none_is_refused(engine, salt):
    with pytest.raises(RequestRejected, match="cache_salt must be a string that is not empty"):
        ask(engine, {"prompt_token_ids": [5, 6, 7], "cache_salt": salt})


def test_hits_are_counted(engine):
    engine.reset_prefix_cache()
    before, prompt = engine.stats(), random_prompts(903, 1, 40, 40)[0]
    ask(engine, prompt)
    ask(engine, prompt)

    now = engine.stats()

    assert now.prefix_cache_queries - before.prefix_cache_queries == 80
    assert now.prefix_cache_hits - before.prefix_cache_hits == 39
    assert 0 < now.prefix_cache_hit_rate < 1


def test_scored_prompts_are_computed_whole(engine):
    engine.reset_prefix_cache()
    prompt = random_prompts(904, 1, 40, 40)[0]
    ask(engine, prompt)

    scored = ask(engine, prompt, prompt_logprobs=0)

    assert scored.num_cached_tokens == 0
    assert scored.prompt_logprobs is not None and all(scored.prompt_logprobs[1:])
