"""What goes wrong in a step, and whom it harms: as few as possible, and nobody in silence."""

import asyncio
import dataclasses
from collections.abc import Callable

import jax
import pytest
from engines import greedily, random_prompts, tokens_of
from test_async_engine import PROMPTS, all_of, is_empty, run, soon

from jpaged import LLM, AsyncLLMEngine, EngineDied, LLMEngine, RequestFailed, SamplingParams
from jpaged.engine.request_state import RequestState

NO_MEMORY = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
BAD = "bad"  # the id of the request that goes wrong
DRAWN = greedily(30, temperature=1.0, seed=7)  # a sequence with another's options would say else


@pytest.fixture
def reference(llm: LLM) -> list[list[int]]:
    return tokens_of(llm.generate(PROMPTS, DRAWN))


def with_engine(llm: LLM, test: Callable, ahead: bool = True) -> None:
    """Runs a test with an engine that it may spoil; `inner`, before anything was asked of it."""

    async def call() -> None:
        inner = llm.llm_engine.branch()
        inner.loop.ahead = int(ahead)
        async with AsyncLLMEngine.of(inner) as engine:
            await test(engine, inner)

    run(call())


async def outcomes(engine: AsyncLLMEngine, bad: SamplingParams | None = None) -> list:
    """Of a bad request that comes first, and of all prompts."""
    readers = [all_of(engine.generate([9, 8, 7], bad, BAD))] if bad is not None else []
    readers += [all_of(engine.generate(prompt, DRAWN)) for prompt in PROMPTS]
    found = await asyncio.gather(*readers, return_exceptions=True)
    return [each if isinstance(each, BaseException) else each[-1] for each in found]


class Cursed(dict):
    """Token biases that were fine at the door, and are not when a step is laid out."""

    def values(self):
        raise ArithmeticError("cursed")


@pytest.mark.parametrize("curse", [("logit_bias", Cursed({5: 1.0})), ("top_p", "cursed")])
@pytest.mark.parametrize("ahead", [True, False])
def test_an_exception_in_one_requests_sampler_harms_nobody_else(llm, reference, ahead, curse):
    params = dataclasses.replace(DRAWN)
    object.__setattr__(params, *curse)

    async def test(engine: AsyncLLMEngine, inner: LLMEngine) -> None:
        bad, *others = await outcomes(engine, params)
        assert isinstance(bad, RequestFailed) and "cursed" in str(bad)
        assert tokens_of(others) == reference
        await soon(lambda: is_empty(engine))
        assert engine.is_healthy and inner.num_late_compilations == 0

    with_engine(llm, test, ahead)


@pytest.mark.parametrize("where", ["take", "output", "add_prompt_logprobs"])
def test_an_exception_in_one_requests_output_harms_nobody_else(llm, reference, monkeypatch, where):
    real = getattr(RequestState, where)

    def broken(state: RequestState, *arguments):
        is_time = where == "add_prompt_logprobs" or state.samples[0].sequence.num_generated == 3
        if state.request.id == BAD and is_time:
            raise ArithmeticError("no text")
        return real(state, *arguments)

    monkeypatch.setattr(RequestState, where, broken)

    async def test(engine: AsyncLLMEngine, inner: LLMEngine) -> None:
        bad, *others = await outcomes(engine, greedily(30, prompt_logprobs=1))
        assert isinstance(bad, RequestFailed) and "no text" in str(bad)
        assert tokens_of(others) == reference
        await soon(lambda: is_empty(engine))

    with_engine(llm, test)


def test_stepping_by_hand_raises_for_the_one_request_and_goes_on(llm, monkeypatch):
    real = RequestState.take

    def broken(state: RequestState, *arguments):
        if state.request.id == BAD:
            raise ArithmeticError("no text")
        return real(state, *arguments)

    monkeypatch.setattr(RequestState, "take", broken)
    with llm.llm_engine.branch() as engine:
        for name in ("a", BAD, "b"):
            engine.add_request(name, [5, 6, 7], greedily(3))
        with pytest.raises(RequestFailed, match="request bad failed: ArithmeticError: no text"):
            while engine.has_unfinished_requests():
                engine.step()
        finished = []
        while engine.has_unfinished_requests():
            finished += [each.request_id for each in engine.step() if each.finished]
        assert finished == ["a", "b"]


def raising_once(real: Callable, error: Exception, at: int) -> Callable:
    calls = []

    def call(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            raise error
        return real(*arguments)

    return call


@pytest.mark.parametrize("where", ["submit", "collect"])
@pytest.mark.parametrize("ahead", [True, False])
def test_an_exception_of_a_whole_step_ends_its_requests_alone(llm, reference, where, ahead):
    """There are four seats for six: two are not in the step that fails."""

    async def test(engine: AsyncLLMEngine, inner: LLMEngine) -> None:
        executor = inner.executor
        setattr(executor, where, raising_once(getattr(executor, where), NO_MEMORY, at=5))
        found = await outcomes(engine)
        failed = [each for each in found if isinstance(each, RequestFailed)]
        assert len(failed) == 4 and all("RESOURCE_EXHAUSTED" in str(each) for each in failed)
        for each, tokens in zip(found, reference, strict=True):
            assert isinstance(each, RequestFailed) or tokens_of([each]) == [tokens]
        await soon(lambda: is_empty(engine))
        assert tokens_of(await engine.agenerate(PROMPTS, DRAWN)) == reference
        assert engine.is_healthy

    with_engine(llm, test, ahead)


def lose_the_cache(params, kv_pages, *arguments):
    for leaf in jax.tree.leaves(kv_pages):
        leaf.delete()  # it was given to a step that failed
    raise NO_MEMORY


def test_a_step_that_takes_the_cache_along_ends_the_engine(llm, monkeypatch):
    async def test(engine: AsyncLLMEngine, inner: LLMEngine) -> None:
        readers = [asyncio.create_task(all_of(engine.generate(p, greedily(90)))) for p in PROMPTS]
        await soon(lambda: engine.stats.num_running == 4)
        monkeypatch.setattr(inner.executor.compiled, "step", lambda bucket: lose_the_cache)
        for found in await asyncio.gather(*readers, return_exceptions=True):
            assert isinstance(found, EngineDied) and "RESOURCE_EXHAUSTED" in str(found)
        assert not engine.is_healthy
        with pytest.raises(EngineDied, match="took the cache along"):
            await engine.agenerate(PROMPTS, greedily(3))
        with pytest.raises(EngineDied, match="took the cache along"):
            await engine.page_report()

    with_engine(llm, test)


def test_an_exception_in_the_scheduler_ends_the_engine(llm):
    async def test(engine: AsyncLLMEngine, inner: LLMEngine) -> None:
        inner.scheduler.advance = raising_once(
            inner.scheduler.advance, AssertionError("pages are lost"), at=4
        )
        for found in await outcomes(engine):
            assert isinstance(found, EngineDied) and "pages are lost" in str(found)
        assert not engine.is_healthy

    with_engine(llm, test)


def test_a_request_that_cannot_be_queued_fails_alone(llm, monkeypatch):
    async def test(engine: AsyncLLMEngine, inner: LLMEngine) -> None:
        def no_text(*arguments, **options):
            raise ArithmeticError("no text")

        with monkeypatch.context() as patched:
            patched.setattr("jpaged.engine.live_requests.RequestState", no_text)
            with pytest.raises(RequestFailed, match="no text"):
                await all_of(engine.generate(PROMPTS[0], greedily(3)))
        await soon(lambda: is_empty(engine))
        assert len(await engine.agenerate(random_prompts(302, 3), greedily(3))) == 3

    with_engine(llm, test)
