"""An engine in a process of its own: nothing is lost in silence when either of the two dies."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from jpaged import (
    LLM,
    BeamSearchParams,
    ConfigError,
    EngineDied,
    RequestFailed,
    RequestRejected,
    UnsupportedModel,
)
from jpaged.assets import DEMO_MODEL
from jpaged.engine.client import EngineClient, StepNews
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.streams import Stream
from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.terms import Terms
from jpaged.server.remote_engine import RemoteEngine

ROOT = Path(__file__).parent.parent.parent
# a prompt of 900 tokens takes a second
PRETENDING: dict[str, Any] = {"pretend": "constant:step=0.01,token=0.001", "max_num_seqs": 32}
LONG: dict[str, Any] = {"max_tokens": 900}
TEXT = "Once upon a time"


class Loop:
    """An event loop that outlives tests: an engine belongs to the one it was launched on."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run[Result](self, work: Coroutine[Any, Any, Result], seconds: float = 30.0) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def shared_remote(loop: Loop) -> Iterator[RemoteEngine]:
    engine = loop.run(
        RemoteEngine.launch("demo", patience=0.5, step_patience=0.4, restarts=9, **PRETENDING)
    )
    yield engine
    pid = engine.pid
    loop.run(engine.close())
    assert not is_alive(pid)


@pytest.fixture
def remote(shared_remote: RemoteEngine, loop: Loop) -> Iterator[RemoteEngine]:
    """Whatever a test did with it, nothing may be left over."""
    loop.run(shared_remote.wait_healthy())
    yield shared_remote
    loop.run(soon(lambda: is_empty(shared_remote)))


def is_alive(pid: int) -> bool:
    """Whether a process is there that has not ended; one that nobody asked about is a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def is_empty(engine: EngineClient) -> bool:
    stats = engine.stats
    return not (stats.num_running or stats.num_waiting or stats.kv_cache_usage)


async def soon(is_so: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to it"
        await asyncio.sleep(0.005)


def opened(engine: EngineClient, name: str = "a", prompt: Any = TEXT, **params: Any) -> Stream:
    checked = SamplingParams(
        **{"temperature": 0.0, "output_kind": RequestOutputKind.DELTA} | params
    )
    return engine.stream(
        *engine.door.admit(name, prompt, checked, arrival=time.monotonic(), priority=0, serial=0)
    )


async def read(stream: Stream) -> list[RequestOutput]:
    return [output async for output in stream]


def said(outputs: list[RequestOutput]) -> list[int]:
    return [token for output in outputs for token in output.outputs[0].token_ids]


def test_a_servers_process_imports_no_jax():
    code = (
        "import jpaged.server.remote_engine, jpaged.engine.client, sys;"
        "print([name for name in ('jax', 'flax', 'torch') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == "[]"


def test_a_beam_search_travels_there_and_back(remote, loop):
    search = BeamSearchParams(beam_width=3, max_tokens=6, length_penalty=0.5, stop_token_ids=[1])

    async def searched() -> list[RequestOutput]:
        request, text = remote.door.admit_search(
            "a", TEXT, search, max_num_seqs=8, arrival=time.monotonic(), priority=0, serial=0
        )
        return await read(remote.stream(request, text, search))

    [output] = loop.run(searched())

    assert output.finished and output.prompt == TEXT
    assert [len(each.token_ids) for each in output.outputs] == [6, 6, 6]
    assert len({tuple(each.token_ids) for each in output.outputs}) == 3


def test_greedy_tokens_are_those_of_llm_generate(loop):
    options = {"max_num_seqs": 8, "num_pages": 200, "max_num_batched_tokens": 64}
    prompts = [TEXT, "One day", "The fox and the"]
    params: dict[str, Any] = {"max_tokens": 30, "logprobs": 2, "prompt_logprobs": 1}

    async def stream_all() -> list[list[RequestOutput]]:
        async with await RemoteEngine.launch("demo", **options) as engine:
            streams = [opened(engine, prompt, prompt, **params) for prompt in prompts]
            return await asyncio.gather(*map(read, streams))

    found = loop.run(stream_all(), seconds=60)
    with LLM("demo", use_tqdm_on_load=False, **options) as llm:
        expected = llm.generate(prompts, SamplingParams(temperature=0, **params), use_tqdm=False)
    for deltas, whole in zip(found, expected, strict=True):
        assert said(deltas) == whole.outputs[0].token_ids
        assert "".join(each.outputs[0].text for each in deltas) == whole.outputs[0].text
        logprobs = [p for each in deltas for p in each.outputs[0].logprobs or []]
        assert [list(p) for p in logprobs] == [list(p) for p in whole.outputs[0].logprobs or []]
        assert deltas[0].prompt_logprobs is not None and whole.prompt_logprobs is not None
        assert len(deltas[0].prompt_logprobs) == len(whole.prompt_logprobs)
        assert (deltas[-1].finished, deltas[-1].prompt) == (True, whole.prompt)
        assert deltas[-1].prompt_token_ids == whole.prompt_token_ids


def test_many_streams_at_once_say_all_that_they_were_asked_for(remote, loop):
    async def stream_all() -> list[list[RequestOutput]]:
        streams = [opened(remote, f"{n}", [5 + n], max_tokens=20, n=2) for n in range(40)]
        return await asyncio.gather(*map(read, streams))

    for outputs in loop.run(stream_all()):
        tokens = [s.token_ids for output in outputs for s in output.outputs]
        assert sum(map(len, tokens)) == 40 and outputs[-1].finished


def test_who_goes_away_gives_his_pages_back(remote, loop):
    async def leave() -> None:
        streams = [opened(remote, f"{n}", **LONG) for n in range(20)]
        readers = [asyncio.create_task(read(stream)) for stream in streams[5:]]
        for stream in streams[:5]:
            await anext(stream)
            await stream.aclose()
        await soon(lambda: remote.stats.num_running == 15)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        del streams, readers
        await soon(lambda: is_empty(remote))
        assert (await remote.page_report()).held == 0

    loop.run(leave())


def test_who_is_aborted_by_another_hears_of_it(remote, loop):
    async def abort() -> None:
        reading = asyncio.create_task(read(opened(remote, "other", **LONG)))
        await soon(lambda: remote.stats.num_running > 0)
        await remote.abort(["other"])
        with pytest.raises(RequestFailed, match="other was aborted"):
            await reading

    loop.run(abort())


def test_listeners_hear_of_every_step(remote, loop):
    heard: list[StepNews] = []

    async def listen() -> None:
        remote.listeners.append(heard.append)
        await read(opened(remote, "heard", max_tokens=5))
        await soon(lambda: any(news.ended for news in heard))
        remote.listeners.clear()

    loop.run(listen())
    assert len([step for news in heard for step in news.steps]) == 5
    [record] = [record for news in heard for record in news.ended]
    assert (record.request_id, record.num_output, record.finish_reason) == ("heard", 5, "length")


def test_policies_are_changed_by_name(remote, loop):
    loop.run(remote.set_policy("shortest"))
    assert remote.card.policy == "shortest"
    for other in ("fairest", "jpaged.policies:Fcfs", "mine.py:Mine"):  # nor runs anybody's code
        with pytest.raises(ConfigError, match=f"no policy '{other}'"):
            loop.run(remote.set_policy(other))
    loop.run(remote.set_policy("fcfs"))


@pytest.mark.parametrize(
    "params", [{"seed": 1 << 70}, {"stop": "\ud800"}, {"top_k": 1 << 64}], ids=str
)
def test_what_cannot_be_sent_is_refused(remote, loop, params):
    async def ask() -> None:
        with pytest.raises(RequestRejected, match="cannot be sent"):
            opened(remote, "odd", **params)
        assert len(said(await read(opened(remote, "odd", max_tokens=2)))) == 2

    loop.run(ask())


def test_what_only_the_engine_sees_is_refused_by_the_stream(loop):
    async def ask() -> None:
        own = "jpaged.policies:EarlyRejection:margin=1.0"  # as one's own is named
        options: dict[str, Any] = PRETENDING | {"policy": own}
        async with await RemoteEngine.launch("demo", **options) as engine:
            request, text = engine.door.admit(
                "late",
                list(range(5, 900)),
                SamplingParams(max_tokens=4),
                arrival=time.monotonic(),
                priority=0,
                serial=0,
                terms=Terms(ttft=0.01),
            )
            with pytest.raises(RequestRejected, match="refused by the policy"):
                await read(engine.stream(request, text))

    loop.run(ask())


def test_signals_for_the_whole_group_are_the_servers_business(remote, loop):
    async def interrupt() -> None:
        stream = opened(remote, max_tokens=20)
        await anext(stream)
        os.kill(remote.pid, signal.SIGINT)
        os.kill(remote.pid, signal.SIGTERM)
        assert os.getpgid(remote.pid) != os.getpgid(0)
        assert len(said(await read(stream))) == 19

    loop.run(interrupt())


def test_one_that_is_stopped_is_not_healthy_until_it_goes_on(remote, loop):
    async def stop() -> None:
        stream = opened(remote, max_tokens=50)
        first = await anext(stream)
        os.kill(remote.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.2)
            assert remote.is_healthy  # it may be busy
            await soon(lambda: not remote.is_healthy, seconds=3)
        finally:
            os.kill(remote.pid, signal.SIGCONT)
        await soon(lambda: remote.is_healthy, seconds=3)
        assert len(said([first, *await read(stream)])) == 50

    loop.run(stop())


def test_one_that_is_stuck_in_a_step_is_not_healthy_until_it_goes_on(remote, loop):
    async def wait() -> None:
        reading = asyncio.create_task(
            read(opened(remote, prompt=list(range(5, 905)), max_tokens=2))
        )
        await asyncio.sleep(0.1)
        assert remote.is_healthy
        await soon(lambda: not remote.is_healthy, seconds=3)
        assert len(said(await reading)) == 2
        await soon(lambda: remote.is_healthy, seconds=3)

    loop.run(wait())


def test_killed_while_32_streams_are_read_all_fail_at_once_and_another_one_begins(remote, loop):
    async def kill() -> float:
        streams = [opened(remote, f"{n}", **LONG) for n in range(32)]
        readers = [asyncio.create_task(read(stream)) for stream in streams]
        call = asyncio.create_task(remote.page_report())
        await soon(lambda: remote.stats.num_running == 32)
        os.kill(remote.pid, signal.SIGKILL)
        start = time.monotonic()
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        seconds = time.monotonic() - start
        assert [type(each) for each in outcomes] == [EngineDied] * 32
        assert all("killed by SIGKILL" in str(each) for each in outcomes)
        assert (await call).num_pages > 0
        assert not remote.is_healthy and is_empty(remote)
        with pytest.raises(EngineDied):
            opened(remote)
        with pytest.raises(EngineDied):
            await remote.page_report()
        await remote.wait_healthy()
        assert len(said(await read(opened(remote, max_tokens=3)))) == 3
        return seconds

    assert loop.run(kill()) < 2.0


def test_killed_idle_it_is_noticed_and_another_one_begins(remote, loop):
    async def kill() -> None:
        pid = remote.pid
        os.kill(pid, signal.SIGKILL)
        await soon(lambda: not remote.is_healthy, seconds=1)
        await remote.wait_healthy()
        assert remote.pid != pid
        assert len(said(await read(opened(remote, max_tokens=3)))) == 3

    loop.run(kill())


def test_without_restarts_it_stays_dead_and_its_log_is_the_servers(loop, caplog):
    async def kill() -> None:
        with caplog.at_level(logging.INFO, "jpaged"):
            engine = await RemoteEngine.launch("demo", num_pages=40, **PRETENDING)
        assert "max_model_len is 640: the cache holds no longer sequence" in caplog.messages
        reading = asyncio.create_task(read(opened(engine, max_tokens=600)))
        await soon(lambda: engine.stats.num_running > 0)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL"):
            await reading
        with pytest.raises(EngineDied, match="SIGKILL"):
            await engine.wait_healthy()
        await engine.close()

    loop.run(kill())


def test_it_stays_dead_when_another_one_cannot_be_made(loop, tmp_path):
    folder = shutil.copytree(DEMO_MODEL, tmp_path / "model")

    async def kill() -> None:
        engine = await RemoteEngine.launch(str(folder), restarts=1, **PRETENDING)
        shutil.rmtree(folder)
        os.kill(engine.pid, signal.SIGKILL)
        await soon(lambda: not engine.is_healthy)
        with pytest.raises(EngineDied, match="model.* is no folder"):
            await engine.wait_healthy()
        with pytest.raises(EngineDied):
            opened(engine)
        await engine.close()

    loop.run(kill())


PARENT = f"""
import asyncio, time
from jpaged.server.remote_engine import RemoteEngine
from jpaged.sampling_params import SamplingParams

async def main():
    engine = await RemoteEngine.launch("demo", **{PRETENDING})
    arrival = time.monotonic()
    checked = engine.door.admit(
        "a", [5, 6], SamplingParams(max_tokens=900), arrival=arrival, priority=0, serial=0
    )
    stream = engine.stream(*checked)
    await anext(stream)
    print(engine.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_it_dies_with_its_parent():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    deadline = time.monotonic() + 2.0
    while is_alive(pid):
        assert time.monotonic() < deadline, "the engine outlived its server"
        time.sleep(0.01)


def engine_processes() -> set[int]:
    """Those that this process began, dead ones that nobody asked about included."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def test_an_engine_that_cannot_be_made_says_why_and_leaves_no_process(loop, tmp_path):
    before = engine_processes()
    (tmp_path / "config.json").write_text('{"model_type": "rnn"}')
    with pytest.raises(UnsupportedModel, match="model type 'rnn' is not supported"):
        loop.run(RemoteEngine.launch(str(tmp_path)))
    assert engine_processes() <= before


def test_a_launch_that_is_cancelled_leaves_no_process(loop):
    before = engine_processes()

    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await RemoteEngine.launch("demo", **PRETENDING)

    loop.run(cancel())
    assert engine_processes() <= before


@pytest.mark.parametrize(
    "options, said",
    [
        ({"pretend": "warp:9"}, "no cost model 'warp'"),
        ({"cost_model": "constant:step=-1"}, "below 0"),
        ({"cost_model": object()}, "takes cost_model as a text"),
        ({"policy": "fairest"}, "no policy 'fairest'"),
        ({"policy": "nowhere.py:Mine"}, "there is no file nowhere.py"),
        ({"policy": object()}, "takes a policy by name"),
        ({"max_num_seq": 3}, "no engine option 'max_num_seq'; did you mean 'max_num_seqs'"),
        ({"num_pages": -1}, "num_pages must be a whole number"),
    ],
)
def test_bad_options_are_refused_before_a_process_begins(loop, options, said):
    with pytest.raises(ConfigError, match=said):
        loop.run(RemoteEngine.launch("demo", **options), seconds=1)
