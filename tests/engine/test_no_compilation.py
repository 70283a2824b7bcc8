"""After warm-up nothing is compiled any more, whatever the requests look like."""

import threading
import warnings
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from engines import an_engine, greedily, last, num_held_pages, random_prompts, run, stats, tokens_of

from jpaged import CompiledAfterWarmup, LLMEngine, SamplingParams

EVENT = "/jax/core/compile/backend_compile_duration"
TIGHT = {"num_pages": 36}  # 144 tokens for four sequences of up to 128: they will be preempted


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """What JAX itself says about compilations, on any thread."""
    for thread in threading.enumerate():  # other tests' engines may still be at it
        if thread.name == "jpaged-compiler":
            thread.join()
    seen: list[str] = []

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == EVENT:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield seen
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.fixture(scope="module")
def storm_engine(tiny_llama) -> Iterator[LLMEngine]:
    engine = an_engine(tiny_llama, jit_monitor="error", warmup="full", **TIGHT)
    yield engine
    engine.close()


def odd_params(rng: np.random.Generator) -> SamplingParams:
    """Any mixture of everything a request may ask for."""

    def sometimes(value, otherwise):
        return value if rng.random() < 0.4 else otherwise

    return SamplingParams(
        n=sometimes(3, 1),
        temperature=sometimes(0.0, 1.3),
        top_k=sometimes(5, 0),
        top_p=sometimes(0.7, 1.0),
        min_p=sometimes(0.1, 0.0),
        seed=sometimes(int(rng.integers(2**40)), None),
        presence_penalty=sometimes(0.5, 0.0),
        frequency_penalty=sometimes(-0.5, 0.0),
        repetition_penalty=sometimes(1.2, 1.0),
        stop=sometimes(["the", "  "], None),
        stop_token_ids=sometimes([7, 8], None),
        ignore_eos=bool(rng.random() < 0.5),
        max_tokens=sometimes(None, int(rng.integers(5, 30))),
        min_tokens=sometimes(3, 0),
        logprobs=sometimes(int(rng.integers(0, 21)), None),
        prompt_logprobs=sometimes(int(rng.integers(0, 21)), None),
        logit_bias=sometimes({9: 2.0, 10: -100.0}, None),
        allowed_token_ids=sometimes(list(range(0, 390, 3)), None),
        bad_words=sometimes(["fox", "another door"], None),
    )


def test_a_storm_of_odd_requests_compiles_nothing(storm_engine, compilations):
    rng = np.random.default_rng(0)
    prompts = random_prompts(90, 36, shortest=1, longest=127)
    shared = prompts[0][:40]
    num_cached, num_preempted = 0, 0
    for number, prompt in enumerate(prompts):
        prompt = (shared + prompt)[:120] if number % 3 == 0 else prompt
        storm_engine.add_request(str(number), prompt, odd_params(rng))
        for output in storm_engine.step():
            num_cached += output.num_cached_tokens
        if number % 9 == 8:
            storm_engine.abort_request(str(number - rng.integers(8)))
    for outputs in run(storm_engine).values():
        num_cached += outputs[-1].num_cached_tokens
        num_preempted += stats(outputs[-1]).num_preemptions
    assert compilations == []
    assert storm_engine.num_late_compilations == 0
    assert num_held_pages(storm_engine) == 0
    assert num_cached > 0 and num_preempted > 0, "the storm was too mild"


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 64, 127])
def test_no_prompt_length_compiles_anything(storm_engine, compilations, length):
    for number in range(5):
        storm_engine.add_request(str(number), [5 + number] * length, greedily(2))
        assert len(last(storm_engine)) == 1
    assert compilations == []


def badly_warmed_up(tiny_llama, **options) -> LLMEngine:
    """An engine whose warm-up missed every step."""
    engine = an_engine(tiny_llama, warmup="none", **options)
    engine.executor._is_warm = True
    engine.executor.compiled.is_complete = True
    return engine


def test_a_late_compilation_warns_and_is_counted(tiny_llama):
    engine = badly_warmed_up(tiny_llama, jit_monitor="warn")
    engine.add_request("a", [5, 6, 7], greedily(1))
    with pytest.warns(RuntimeWarning, match=r"bucket T16·B4·N32 was compiled while serving"):
        assert len(last(engine)) == 1
    assert engine.num_late_compilations == 1
    engine.close()


def test_a_late_compilation_is_an_error_where_that_was_asked_for(tiny_llama, llm):
    engine = an_engine(tiny_llama, jit_monitor="error", warmup="full", async_scheduling=False)
    engine.add_request("a", [5, 6, 7], greedily(4))
    engine.step()
    engine.executor.compiled.steps.clear()
    with pytest.raises(CompiledAfterWarmup, match="T2·B2"):
        engine.step()
    engine.executor.jit_monitor = "off"  # nothing was lost: the same request goes on
    expected = tokens_of(llm.generate([[5, 6, 7]], greedily(4)))
    assert tokens_of([last(engine)["a"]]) == expected
    engine.close()


def test_late_compilations_pass_in_silence_where_that_was_asked_for(tiny_llama):
    engine = badly_warmed_up(tiny_llama, jit_monitor="off")
    engine.add_request("a", [5, 6, 7], greedily(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(last(engine)) == 1
    assert caught == []
    assert engine.num_late_compilations == 1
    engine.close()


def test_without_warm_up_steps_are_compiled_when_first_needed(tiny_llama, llm):
    engine = an_engine(tiny_llama, warmup="none", jit_monitor="error")
    assert not engine.executor.compiled.steps
    engine.add_request("a", [5, 6, 7], greedily(4, logprobs=1, prompt_logprobs=1))
    outputs = last(engine)
    assert tokens_of([outputs["a"]]) == tokens_of(llm.generate([[5, 6, 7]], greedily(4)))
    assert len(engine.executor.compiled.steps) == 2
    assert engine.num_late_compilations == 0
    engine.close()
