"""Engines that only pretend: they take the time that a cost model says, and answer words."""

import asyncio
import time
from pathlib import Path

import pytest
from engines import first, last, logprobs, num_held_pages, prompt_logprobs

from jpaged import (
    AsyncLLMEngine,
    ConfigError,
    LLMEngine,
    RequestOutputKind,
    SamplingParams,
)
from jpaged.assets import DEMO_MODEL
from jpaged.engine.pretended_costs import costs_of
from jpaged.simulator import Constant

QUICK = "constant:0.0001"


def pretending(pretend: object = QUICK, **options) -> LLMEngine:
    return LLMEngine("demo", **{"pretend": pretend, "max_num_seqs": 8} | options)


def generated(engine: LLMEngine, **params) -> list[int]:
    engine.add_request("a", "Once upon a time", SamplingParams(**params))
    return first(last(engine)["a"]).token_ids


def test_it_says_words_until_max_tokens():
    with pretending() as engine:
        engine.add_request("a", "Once upon a time", SamplingParams(max_tokens=300))
        said = first(last(engine)["a"])
        assert said.finish_reason == "length" and len(said.token_ids) == 300
        assert all(word.isalpha() for word in said.text.split())
        assert len(set(said.token_ids)) > 50
        assert not set(said.token_ids) & engine.eos_token_ids
        assert num_held_pages(engine) == 0


def test_words_depend_on_the_seed_and_on_nothing_else():
    with pretending() as engine, pretending(max_num_batched_tokens=16) as other:
        said = generated(engine, seed=1, max_tokens=40)
        assert generated(engine, seed=1, max_tokens=40) == said
        assert generated(other, seed=1, max_tokens=40) == said
        assert generated(engine, seed=2, max_tokens=40) != said


def test_a_step_takes_as_long_as_the_cost_model_says():
    with pretending(Constant(step=0.02, token=0.001)) as engine:
        start = time.monotonic()
        generated(engine, max_tokens=10)
        seconds = time.monotonic() - start
    expected = 10 * 0.021 + 4 * 0.001  # "Once upon a time" is five tokens or less
    assert expected - 0.01 < seconds < 2 * expected


def test_no_weights_are_loaded(tmp_path: Path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((Path(DEMO_MODEL) / name).read_bytes())
    with LLMEngine(str(tmp_path), pretend=QUICK) as engine:
        assert len(generated(engine, max_tokens=5)) == 5
        assert engine.memory_report().weights == 0


def test_log_probabilities_come_in_the_numbers_that_were_asked_for():
    with pretending() as engine:
        params = SamplingParams(max_tokens=7, logprobs=3, prompt_logprobs=2)
        engine.add_request("a", "Once upon a time", params)
        output = last(engine)["a"]
        assert [len(position) for position in logprobs(first(output))] == [3] * 7
        assert all(2 <= len(p) <= 3 for p in prompt_logprobs(output)[1:])
        assert len(prompt_logprobs(output)) == len(output.prompt_token_ids)


def test_beam_search_and_steering_work_on_words():
    with pretending() as engine:
        params = SamplingParams(logprobs=2, max_tokens=2)
        engine.add_request("a", "Once", params, steered=True)
        [output] = [each for _ in range(3) for each in engine.step()]
        candidates = first(output).candidates
        assert candidates is not None and len(candidates) == 2
        engine.extend("a", list(candidates))
        assert first(last(engine)["a"]).token_ids == list(candidates)


def test_it_can_be_branched():
    with pretending() as engine:
        engine.add_request("a", "Once upon a time", SamplingParams(max_tokens=20, seed=3))
        for _ in range(5):
            engine.step()
        with engine.branch() as twin:
            expected = first(last(twin)["a"]).token_ids
        assert first(last(engine)["a"]).token_ids == expected


def test_pages_are_those_of_the_device_that_it_pretends_to_be():
    with pretending("roofline:model=llama-8b,gpu=A100-80GB", max_num_seqs=2048) as engine:
        seats = 2048 * engine.sizes.pages_per_sequence
        assert 1_000 < engine.sizes.num_pages < seats
    with pretending(num_pages=100) as engine:
        assert engine.sizes.num_pages == 100
    with pretending() as engine:
        assert engine.sizes.num_pages == 8 * engine.sizes.pages_per_sequence


def test_seconds_alone_are_those_of_a_step():
    assert costs_of("constant:0.05") == costs_of("constant:step=0.05") == Constant(step=0.05)


@pytest.mark.parametrize(
    "spec, said",
    [
        ("constant:-1", "below 0"),
        ("constant:nan", "below 0"),
        ("constant:speed=3", "speed"),
        ("warp:9", "no cost model 'warp'"),
        ("roofline:model=llama-8b,gpu=H900", "no datasheet of 'H900'"),
        (7, "pretend must name or be a cost model, not 7"),
        (True, "pretend must name or be a cost model"),
    ],
)
def test_a_cost_model_that_is_none_is_refused(spec, said):
    with pytest.raises(ConfigError, match=said):
        pretending(spec)


def test_a_thousand_sequences_at_once_are_cheap():
    async def generate() -> float:
        options = {"max_num_seqs": 1000, "num_pages": 4000}
        async with AsyncLLMEngine("demo", pretend="constant:0.05", **options) as engine:
            params = SamplingParams(max_tokens=20, output_kind=RequestOutputKind.DELTA)

            async def read(number: int) -> int:
                outputs = engine.generate([5 + number, 6, 7], params)
                return sum([len(each.outputs[0].token_ids) async for each in outputs])

            before = time.process_time()
            counts = await asyncio.gather(*[read(number) for number in range(1000)])
            assert counts == [20] * 1000
            return time.process_time() - before

    # 20,000 tokens, and 1,000 requests that come and go: about half a second here; an engine that
    # cannot hold 20 tokens a second for everybody takes more than 1
    assert asyncio.run(generate()) < 2.0


def test_an_engine_that_is_stuck_in_a_step_is_not_healthy_until_it_goes_on():
    async def wait() -> None:
        async with AsyncLLMEngine("demo", pretend=Constant(step=0.3), max_num_seqs=8) as engine:
            engine.step_patience = 0.1
            assert engine.is_healthy
            reading = asyncio.create_task(engine.agenerate("Once", SamplingParams(max_tokens=1)))
            start = time.monotonic()
            while engine.is_healthy:
                assert time.monotonic() < start + 5
                await asyncio.sleep(0.01)
            assert time.monotonic() > start + 0.1 and not engine.is_gone
            await reading
            assert engine.is_healthy

    asyncio.run(wait())
