"""How a server ends: what has begun is finished, what is new refused; a second signal cuts."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from servers import SMALL, Process, Running, events, eventually, process, running

from jpaged.engine.async_engine import AsyncLLMEngine
from jpaged.server.options import ServerOptions
from jpaged.server.serve import Exit, Server

STEP = {"pretend": "constant:0.01"}
FLAGS = ("demo", "--port", "0", "--pretend", "constant:0.01", "--num-pages", "2000")
LONG = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True, "stream": True}


class Streams(threading.Thread):
    """Asks for several streams at once; `texts` are what each said in the end."""

    def __init__(self, url: str, count: int, body: dict[str, Any]):
        super().__init__()
        self.url, self.count, self.body = url, count, body
        self.num_begun, self.texts, self.statuses = 0, [""] * count, [0] * count
        self.start()

    def run(self) -> None:
        async def all_of_them() -> None:
            async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as client:
                await asyncio.gather(*(self._one(client, at) for at in range(self.count)))

        asyncio.run(all_of_them())

    async def _one(self, client: httpx.AsyncClient, at: int) -> None:
        async with client.stream("POST", "/v1/completions", json=self.body) as answer:
            self.statuses[at] = answer.status_code
            self.num_begun += 1
            async for text in answer.aiter_text():
                self.texts[at] += text

    def have_begun(self) -> bool:
        return self.num_begun == self.count

    def assert_whole(self, num_tokens: int) -> None:
        self.join(20)
        for text in self.texts:
            *said, done = events(text)
            assert done == "[DONE]"
            assert said[-1]["choices"][0]["finish_reason"] == "length"
            assert sum(len(each["choices"][0]["token_ids"]) for each in said) == num_tokens


def assert_refuses(client: httpx.Client) -> None:
    for path, answer in (
        ("health", client.get("/health")),
        ("work", client.post("/v1/completions", json={"prompt": "Hi"})),
    ):
        assert answer.status_code == 503, path
        assert answer.headers["retry-after"], path
        assert answer.json()["error"]["type"] == "ServiceUnavailableError"


def is_draining(client: httpx.Client) -> Callable[[], bool]:
    return lambda: client.get("/health").status_code == 503


def test_eight_streams_are_finished_while_new_work_is_refused():
    with running(STEP) as server, server.client() as client:
        streams = Streams(server.url, 8, {**LONG, "return_token_ids": True})
        assert eventually(streams.have_begun)

        server.stop()
        assert eventually(is_draining(client), 1.0)
        assert_refuses(client)
        assert client.get("/v1/models").status_code == 200

        streams.assert_whole(60)
        assert eventually(lambda: server.exit is not None)
        assert server.exit is Exit.DRAINED


def test_an_idle_server_ends_at_once():
    with running(STEP) as server:
        start = time.monotonic()
        server.stop()

        assert eventually(lambda: server.exit is Exit.DRAINED)
        assert time.monotonic() - start < 1.5


def test_waiting_requests_are_finished_too():
    with running({**STEP, "max_num_seqs": 1}) as server:
        body = {**LONG, "max_tokens": 10, "return_token_ids": True}
        streams = Streams(server.url, 6, body)
        assert eventually(lambda: len(server.service.live) == 6)

        server.stop()

        streams.assert_whole(10)
        assert eventually(lambda: server.exit is Exit.DRAINED)


@pytest.mark.parametrize("by", ["time", "second call"])
def test_what_is_cut_off_ends_with_an_error_and_no_success(by: str):
    with running(STEP, shutdown_timeout=0.3 if by == "time" else 30.0) as server:
        streams = Streams(server.url, 4, {**LONG, "max_tokens": 400})
        assert eventually(streams.have_begun)

        server.stop()
        if by == "second call":
            server.stop()
        streams.join(10)

        for text in streams.texts:
            *said, last = events(text)
            assert last["error"]["code"] == 503
            assert all(each["choices"][0]["finish_reason"] is None for each in said)
        assert eventually(lambda: server.exit is Exit.ABORTED)
        assert server.service.outcomes["aborted"] == 4


def test_whole_answers_that_are_cut_off_are_errors():
    with running(STEP, shutdown_timeout=0.2) as server, server.client() as client:
        answers: list[httpx.Response] = []
        body = {**LONG, "max_tokens": 400, "stream": False}
        thread = threading.Thread(
            target=lambda: answers.append(client.post("/v1/completions", json=body))
        )
        thread.start()
        assert eventually(lambda: len(server.service.live) == 1)

        server.stop()
        thread.join(10)

        assert answers[0].status_code == 503


def begin(server: Process, max_tokens: int) -> Streams:
    streams = Streams(server.url, 8, {**LONG, "max_tokens": max_tokens, "return_token_ids": True})
    assert eventually(streams.have_begun)
    return streams


def test_sigterm_drains_a_process_and_it_exits_with_0():
    with process(*FLAGS) as server, server.client() as client:
        assert client.get("/health").status_code == 200
        streams = begin(server, 100)

        server.signal(signal.SIGTERM)
        assert eventually(is_draining(client), 1.0)
        assert_refuses(client)

        streams.assert_whole(100)
        code, err = server.wait()
        assert (code, err) == (Exit.DRAINED, "")


def test_a_second_sigterm_ends_a_process_at_once_with_4():
    with process(*FLAGS) as server:
        streams = begin(server, 900)

        server.signal(signal.SIGTERM)
        time.sleep(0.1)
        server.signal(signal.SIGINT)
        start = time.monotonic()
        code, err = server.wait()

        assert time.monotonic() - start < 3
        assert code == Exit.ABORTED
        assert "8 requests were cut off" in err
        streams.join(5)
        assert all('"error"' in text and "[DONE]" not in text for text in streams.texts)


def test_it_may_be_ended_before_anybody_is_answered():
    """A signal that comes as soon as it is healthy finds its handlers in place."""

    async def run() -> tuple[Exit, bool]:
        server, answers = Server([("demo", "demo")], launch, ServerOptions(port=0)), []

        def end(server: Server) -> None:
            with socket.socket() as probe:
                answers.append(probe.connect_ex(("127.0.0.1", server.port)) == 0)
            server.stop()

        return await server.run(lambda _: None, on_loaded=end), answers[0]

    async def launch(name: str, path: str) -> AsyncLLMEngine:
        return await asyncio.to_thread(AsyncLLMEngine, path, **SMALL, **STEP)

    assert asyncio.run(run()) == (Exit.DRAINED, False)


def test_a_port_that_is_taken_is_told_before_anything_loads(server: Running):
    start = time.monotonic()

    with pytest.raises(RuntimeError, match="cannot listen at 127.0.0.1"):
        Process("demo", "--port", str(server.address[1]))

    assert time.monotonic() - start < 5
