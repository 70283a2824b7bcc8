"""Coroutines that generate: who reads what, at which pace, and what happens when he goes away."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from engines import SMALL, first, greedily, random_prompts, tokens_of

from jpaged import (
    LLM,
    AsyncLLMEngine,
    EngineDied,
    Policy,
    RequestFailed,
    RequestOutput,
    RequestOutputKind,
    RequestRejected,
    SamplingParams,
)
from jpaged.engine.client import EngineClient, StepNews
from jpaged.scheduling.view import View

DELTA = RequestOutputKind.DELTA
PROMPTS = random_prompts(300, 6)
LONG = greedily(60)


@pytest.fixture(scope="module")
def shared_async_engine(shared_llm: LLM) -> Iterator[AsyncLLMEngine]:
    """On no event loop of its own: each test brings another one."""
    engine = AsyncLLMEngine.of(shared_llm.llm_engine.branch())
    yield engine
    asyncio.run(engine.close())


@pytest.fixture
def engine(shared_async_engine: AsyncLLMEngine) -> Iterator[AsyncLLMEngine]:
    """Whatever a test did with it, nothing may be left over."""
    yield shared_async_engine
    until(lambda: is_empty(shared_async_engine))
    assert shared_async_engine.is_healthy


def is_empty(engine: AsyncLLMEngine) -> bool:
    stats = engine.stats
    return not (stats.num_running or stats.num_waiting or stats.kv_cache_usage)


def until(is_so: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to it"
        time.sleep(0.005)


async def soon(is_so: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to it"
        await asyncio.sleep(0.005)


async def all_of(outputs: AsyncIterator[RequestOutput]) -> list[RequestOutput]:
    return [output async for output in outputs]


def run[Result](work: Awaitable[Result]) -> Result:
    async def limited() -> Result:
        return await asyncio.wait_for(work, 30)

    return asyncio.run(limited())


def test_greedy_tokens_are_those_of_llm_generate(engine, llm):
    expected = tokens_of(llm.generate(PROMPTS, greedily()))
    assert tokens_of(run(engine.agenerate(PROMPTS, greedily()))) == expected


def test_outputs_hold_all_that_was_said_so_far(engine):
    outputs = run(all_of(engine.generate(PROMPTS[0], LONG)))
    texts = [first(output).text for output in outputs]
    assert all(later.startswith(text) for text, later in zip(texts, texts[1:], strict=False))
    assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
    assert len(first(outputs[-1]).token_ids) == 60


def test_deltas_make_up_the_whole(engine):
    params = greedily(60, output_kind=DELTA, logprobs=2)
    [whole] = run(engine.agenerate(PROMPTS[0], greedily(60, logprobs=2)))
    deltas = run(all_of(engine.generate(PROMPTS[0], params)))
    assert "".join(first(each).text for each in deltas) == first(whole).text
    assert [t for each in deltas for t in first(each).token_ids] == first(whole).token_ids
    logprobs = [p for each in deltas for p in first(each).logprobs or []]
    assert logprobs == first(whole).logprobs
    assert [each.finished for each in deltas].index(True) == len(deltas) - 1


def test_many_generate_together(engine):
    async def together() -> list[list[RequestOutput]]:
        return await asyncio.gather(*[all_of(engine.generate(p, greedily())) for p in PROMPTS])

    expected = tokens_of(run(engine.agenerate(PROMPTS, greedily())))
    assert tokens_of(outputs[-1] for outputs in run(together())) == expected


def test_leaving_the_loop_aborts_the_request(engine):
    async def read_one() -> None:
        async for _ in engine.generate(PROMPTS[0], LONG):
            break
        await soon(lambda: is_empty(engine))

    run(read_one())


def test_cancelling_a_reader_aborts_the_request(engine):
    async def cancel() -> None:
        reading = asyncio.create_task(all_of(engine.generate(PROMPTS[0], LONG)))
        await soon(lambda: engine.stats.num_running > 0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await soon(lambda: is_empty(engine))

    run(cancel())


def test_cancelling_agenerate_aborts_all_of_it(engine):
    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await engine.agenerate(random_prompts(301, 40), LONG)
        await soon(lambda: is_empty(engine))

    run(cancel())


def test_a_forgotten_stream_aborts_its_request(engine):
    async def forget() -> None:
        stream = engine.stream(*request_of(engine, "forgotten"))
        await anext(stream)
        del stream
        await soon(lambda: is_empty(engine))

    run(forget())


def request_of(engine: AsyncLLMEngine, request_id: str, params: SamplingParams = LONG):
    return engine.door.admit(
        request_id, PROMPTS[0], params, arrival=time.monotonic(), priority=0, serial=0
    )


def test_an_id_in_flight_is_refused_and_may_come_again_after_an_abort(engine):
    expected = run(engine.agenerate(PROMPTS[0], LONG))

    async def again_and_again() -> list[RequestOutput]:
        for _ in range(5):
            stream = engine.stream(*request_of(engine, "same"))
            with pytest.raises(RequestRejected, match="'same' is in flight"):
                engine.stream(*request_of(engine, "same"))
            await anext(stream)
            await stream.aclose()  # what the engine says of it from now on is another's
        return await all_of(engine.generate(PROMPTS[0], LONG, "same"))

    assert tokens_of(run(again_and_again())[-1:]) == tokens_of(expected)


def test_who_is_aborted_by_another_hears_of_it(engine):
    async def abort() -> None:
        reading = asyncio.create_task(all_of(engine.generate(PROMPTS[0], LONG, "other")))
        await soon(lambda: engine.stats.num_running > 0)
        await engine.abort(["other", "unknown"])
        with pytest.raises(RequestFailed, match="other was aborted"):
            await reading
        await soon(lambda: is_empty(engine))

    run(abort())


def test_who_reads_on_another_loop_is_aborted_too(engine):
    outcome = []

    def elsewhere() -> None:
        with pytest.raises(RequestFailed, match="other was aborted") as failed:
            run(all_of(engine.generate(PROMPTS[0], LONG, "other")))
        outcome.append(failed.value)

    async def abort() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await soon(lambda: engine.stats.num_running > 0)
        await engine.abort(["other"])
        await soon(lambda: bool(outcome))
        thread.join()

    run(abort())


def test_a_slow_reader_finds_deltas_merged(engine):
    async def slowly() -> list[RequestOutput]:
        outputs = []
        params = greedily(100, output_kind=DELTA, n=2)
        async for output in engine.generate([5, 6, 7], params):
            outputs.append(output)
            await asyncio.sleep(0.05)
        return outputs

    outputs = run(slowly())
    assert len(outputs) < 60  # a step takes about a millisecond
    said = {0: [], 1: []}
    for output in outputs:
        for sample in output.outputs:
            said[sample.index] += sample.token_ids
    assert [len(tokens) for tokens in said.values()] == [100, 100]


def test_any_number_of_event_loops_are_served_at_once(engine):
    expected = tokens_of(run(engine.agenerate(PROMPTS, greedily())))
    found = {}

    def elsewhere(name: int) -> None:
        found[name] = tokens_of(run(engine.agenerate(PROMPTS, greedily())))

    threads = [threading.Thread(target=elsewhere, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 3


def test_nothing_runs_if_one_of_the_prompts_is_bad(engine):
    async def generate() -> None:
        with pytest.raises(RequestRejected, match="empty"):
            await engine.agenerate([*PROMPTS, []], greedily())
        assert is_empty(engine)

    run(generate())


def test_listeners_hear_of_every_step_on_the_loop(engine):
    heard: list[tuple[StepNews, int]] = []

    async def listen() -> None:
        engine.listeners.append(lambda news: heard.append((news, threading.get_ident())))
        await all_of(engine.generate(PROMPTS[0], greedily(5), "heard"))
        await soon(lambda: any(news.ended for news, _ in heard))

    run(listen())
    engine.listeners.clear()
    assert {thread for _, thread in heard} == {threading.get_ident()}
    steps = [step for news, _ in heard for step in news.steps]
    assert len(steps) >= 5 and [s.index for s in steps] == list(
        range(steps[0].index, steps[0].index + len(steps))
    )
    [ended] = [record for news, _ in heard for record in news.ended]
    assert (ended.request_id, ended.num_output, ended.finish_reason) == ("heard", 5, "length")


def test_reports_and_policies_between_two_steps(engine):
    async def look() -> None:
        reading = asyncio.create_task(all_of(engine.generate(PROMPTS[0], LONG)))
        await soon(lambda: engine.stats.num_running > 0)
        assert (await engine.page_report()).held > 0
        await engine.set_policy("shortest")
        assert engine.card.policy == "shortest"
        await reading
        await engine.set_policy("fcfs")
        assert "KV pages" in str(await engine.memory_report())

    run(look())


class Refusing(Policy):
    def propose(self, view: View):
        yield from ((sequence, 1) for sequence in view.waiting)

    def refuse(self, view: View, request) -> str:
        return "not today"


def test_what_only_the_engine_sees_is_refused_by_the_stream(engine):
    async def ask() -> None:
        await engine.set_policy(Refusing())
        with pytest.raises(RequestRejected, match="not today"):
            await all_of(engine.generate(PROMPTS[0], LONG))
        await engine.set_policy("fcfs")

    run(ask())


def test_an_idle_engine_takes_no_time(engine):
    run(engine.agenerate(PROMPTS[0], greedily(2)))
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


class Patient(Policy):
    """Lets nobody in before so many wait, or so many seconds went by."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def propose(self, view: View):
        is_time = view.waiting and view.now - view.waiting[0].arrival >= self.seconds
        if view.running or is_time or len(view.waiting) > 2:
            yield from ((s, s.num_pending) for s in (*view.running, *view.waiting))

    def wake_at(self, view: View) -> float:
        return view.waiting[0].arrival + self.seconds


def test_waiting_with_a_policy_takes_no_time_and_ends_in_time(engine):
    async def wait() -> tuple[float, float]:
        await engine.set_policy(Patient(0.6))
        busy, start = time.process_time(), time.monotonic()
        await all_of(engine.generate(PROMPTS[0], greedily(1)))
        return time.process_time() - busy, time.monotonic() - start

    busy, seconds = run(wait())
    assert 0.6 <= seconds < 1.5 and busy < 0.15


def test_who_arrives_ends_a_policys_wait(engine):
    async def wait() -> float:
        await engine.set_policy(Patient(8.0))
        start = time.monotonic()
        readers = [
            asyncio.create_task(all_of(engine.generate(p, greedily(1)))) for p in PROMPTS[:2]
        ]
        await asyncio.sleep(0.1)
        await asyncio.gather(all_of(engine.generate(PROMPTS[2], greedily(1))), *readers)
        await engine.set_policy("fcfs")
        return time.monotonic() - start

    assert run(wait()) < 4.0


def test_closing_ends_the_thread_and_fails_what_is_in_flight(llm):
    before = set(threading.enumerate())

    async def close() -> None:
        engine = AsyncLLMEngine.of(llm.llm_engine.branch())
        reading = asyncio.create_task(all_of(engine.generate(PROMPTS[0], LONG)))
        await soon(lambda: engine.stats.num_running > 0)
        await engine.close()
        with pytest.raises(EngineDied, match="closed"):
            await reading
        assert not engine.is_healthy
        with pytest.raises(EngineDied, match="closed"):
            await all_of(engine.generate(PROMPTS[0], LONG))
        with pytest.raises(EngineDied, match="closed"):
            await engine.page_report()
        await engine.close()

    run(close())
    assert set(threading.enumerate()) <= before


def test_one_can_be_built_from_options_alone():
    async def generate() -> None:
        async with AsyncLLMEngine("demo", pretend="constant:0.001") as engine:
            assert len(await engine.agenerate(["Once", "upon"], SamplingParams())) == 2

    run(generate())


def test_it_is_what_a_server_knows_of_an_engine(engine):
    client: EngineClient = engine
    assert client.card.num_pages == SMALL["num_pages"] and client.card.num_parameters > 10_000
    assert client.tokenizer.encode("fox") and client.door.vocab == client.card.vocab
