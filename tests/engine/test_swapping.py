"""Preemption by swapping to the host: the same tokens, and nothing is computed twice."""

import pytest
from engines import (
    a_llm,
    an_engine,
    greedily,
    last,
    num_held_pages,
    random_prompts,
)

from jpaged import BeamSearchParams, ConfigError, LLMEngine, SamplingParams
from jpaged.policies import Fcfs

TIGHT = {"num_pages": 26, "warmup": "none"}  # of four tokens; four sequences grow to 14 each


def prompts() -> list[list[int]]:
    return random_prompts(600, 4, shortest=16, longest=20)


def told(engine: LLMEngine, params: SamplingParams) -> list[list[int]]:
    for number, prompt in enumerate(prompts()):
        engine.add_request(str(number), prompt, params)
    outputs = last(engine)
    ordered = [outputs[str(number)] for number in range(len(outputs))]
    assert num_held_pages(engine) == 0 and engine.scheduler.queues.host.num_used == 0
    return [sample.token_ids for output in ordered for sample in output.outputs]


@pytest.fixture(scope="module")
def plenty(tiny_llama) -> list[list[int]]:
    engine = an_engine(tiny_llama, warmup="none")
    expected = told(engine, greedily(36))
    engine.close()
    return expected


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("page_size", [4, 16])
def test_tokens_are_the_same_and_none_is_computed_twice(tiny_llama, plenty, is_async, page_size):
    sizes = {"page_size": page_size, "num_pages": 26 * 4 // page_size, "max_model_len": 64}
    engine = an_engine(
        tiny_llama, warmup="none", num_host_pages=100, async_scheduling=is_async, **sizes
    )

    assert told(engine, greedily(36)) == plenty

    counts = engine.stats().counts
    assert counts.num_swapped_out == counts.num_preemptions > 0
    assert counts.num_pages_swapped_out >= counts.num_pages_swapped_in > 0
    assert counts.num_recomputed == 0
    assert sum(record.pages_swapped_in for record in engine.records) == counts.num_pages_swapped_in
    engine.close()


def test_without_room_on_the_host_preemption_is_by_recomputation(tiny_llama, plenty):
    engine = an_engine(tiny_llama, **TIGHT)

    assert told(engine, greedily(36)) == plenty

    counts = engine.stats().counts
    assert counts.num_swapped_out == 0 < counts.num_preemptions
    assert counts.num_recomputed == sum(record.num_recomputed for record in engine.records) > 0
    assert 0 < counts.recompute_tax < 1
    engine.close()


def test_a_host_pool_too_small_for_a_swap_falls_back_and_is_counted(tiny_llama, plenty):
    engine = an_engine(tiny_llama, num_host_pages=6, **TIGHT)

    assert told(engine, greedily(36)) == plenty

    stats = engine.stats()
    assert stats.num_swaps_refused > 0
    assert stats.counts.num_swapped_out < stats.counts.num_preemptions
    engine.close()


def test_the_mode_recompute_leaves_the_host_alone(tiny_llama, plenty):
    engine = an_engine(tiny_llama, num_host_pages=100, preemption_mode="recompute", **TIGHT)

    assert told(engine, greedily(36)) == plenty

    assert engine.stats().counts.num_swapped_out == 0 < engine.stats().counts.num_preemptions
    engine.close()


class SwapLong(Fcfs):
    """Swaps those who have computed much."""

    def wants_swap(self, view, victim):
        assert victim in view.running
        return victim.num_computed > 40


def test_a_policy_chooses_the_mode_for_each_victim(tiny_llama, plenty):
    policy = SwapLong()
    engine = an_engine(tiny_llama, num_host_pages=100, policy=policy, **TIGHT)

    assert told(engine, greedily(36)) == plenty

    counts = engine.stats().counts
    assert 0 < counts.num_swapped_out < counts.num_preemptions
    engine.close()


def test_samples_that_share_pages_are_swapped_one_by_one(tiny_llama):
    params = SamplingParams(n=3, temperature=0.8, seed=7, max_tokens=30, ignore_eos=True)
    roomy = an_engine(tiny_llama, warmup="none", num_pages=400)
    expected = told(roomy, params)
    roomy.close()
    engine = an_engine(tiny_llama, num_host_pages=100, **TIGHT)

    assert told(engine, params) == expected

    assert engine.stats().counts.num_pages_swapped_in > 0
    engine.close()


def test_beams_are_swapped_too(tiny_llama):
    params = BeamSearchParams(4, 12, ignore_eos=True)
    with a_llm(tiny_llama, warmup="none") as roomy:
        expected = roomy.beam_search(prompts()[:2], params)
    with a_llm(tiny_llama, num_pages=10, max_model_len=40, warmup="none", num_host_pages=60) as llm:
        found = llm.beam_search(prompts()[:2], params)
        assert llm.llm_engine.stats().counts.num_pages_swapped_in > 0
    for mine, other in zip(found, expected, strict=True):
        assert [each.tokens for each in mine.sequences] == [each.tokens for each in other.sequences]


def test_an_aborted_sequence_leaves_the_host(tiny_llama):
    engine = an_engine(tiny_llama, num_host_pages=100, **TIGHT)
    for number, prompt in enumerate(prompts()):
        engine.add_request(str(number), prompt, greedily(36))
    while not engine.scheduler.queues.host.num_used:
        engine.step()

    engine.abort_request([str(number) for number in range(4)])

    assert engine.scheduler.queues.host.num_used == 0 == num_held_pages(engine)
    assert not engine.has_unfinished_requests()
    engine.close()


def test_nothing_is_compiled_late(tiny_llama, plenty):
    engine = an_engine(
        tiny_llama,
        num_pages=26,
        max_model_len=64,
        num_host_pages=100,
        warmup="full",
        jit_monitor="error",
    )

    assert told(engine, greedily(36)) == plenty

    assert engine.num_late_compilations == 0
    assert engine.stats().counts.num_pages_swapped_in > 0
    engine.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"swap_space": -1}, "swap_space must be GiB of host memory, not -1"),
        ({"num_host_pages": 0}, "num_host_pages must be a whole number of at least 1"),
        ({"swap_space": 1, "num_host_pages": 5}, "give one of them"),
        ({"preemption_mode": "swap"}, "needs room on the host: set swap_space"),
        ({"preemption_mode": "both"}, "preemption_mode must be one of None, swap, recompute"),
        ({"swap_space": 1e6}, r"on the host take \d+ bytes, \d+ are free; lower swap_space"),
    ],
)
def test_options_at_odds_are_refused(tiny_llama, options, message):
    with pytest.raises(ConfigError, match=message):
        an_engine(tiny_llama, **options)
