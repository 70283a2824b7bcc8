"""What an engine took it gives back."""

import gc

import jax
import pytest
from engines import an_engine, greedily, last, num_held_pages, random_prompts

from jpaged import RequestRejected, SamplingParams


def num_live_bytes() -> int:
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


def test_closing_frees_every_array(tiny_llama):
    before = num_live_bytes()
    engine = an_engine(tiny_llama)
    engine.add_request("a", [5, 6, 7], greedily(3, logprobs=2, prompt_logprobs=2))
    last(engine)
    cache = 128 * 1024  # pages of 1 KiB
    assert num_live_bytes() > before + cache
    engine.close()
    assert num_live_bytes() == before


def test_closing_ends_what_is_in_flight(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none")
    for number, prompt in enumerate(random_prompts(100, 6)):
        engine.add_request(str(number), prompt, greedily())
    engine.step()
    assert num_held_pages(engine) > 0
    engine.close()
    assert num_held_pages(engine) == 0
    assert not engine.has_unfinished_requests() and engine.step() == []


def test_a_closed_engine_is_refused_and_may_be_closed_again(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none")
    engine.close()
    engine.close()
    with pytest.raises(RequestRejected, match="closed"):
        engine.add_request("a", "Hello")


def test_all_pages_return_after_generating(llm, engine):
    llm.generate(random_prompts(101, 12), SamplingParams(n=2, seed=1, max_tokens=9))
    assert num_held_pages(engine) == 0
    assert engine.scheduler.pool.num_free == engine.sizes.num_pages
