"""Clients that go away, or hardly read: what they asked for ends, and others never notice."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from servers import Running, events, eventually, running

from jpaged.server.wire import LimitedHttp

LONG = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True}


@pytest.fixture(scope="module")
def slow_server() -> Iterator[Running]:
    with running({"pretend": "constant:0.01", "max_num_seqs": 2}) as server:
        yield server


@pytest.fixture
def idle_server(slow_server: Running) -> Iterator[Running]:
    slow_server.service.outcomes.clear()
    yield slow_server
    assert slow_server.call(slow_server.service.idle(5))
    assert eventually(lambda: slow_server.num_pages_held() == 0)


def asking(server: Running, body: dict[str, Any]) -> socket.socket:
    """A connection that has asked and has read nothing."""
    sock = socket.socket()
    sock.settimeout(5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect(server.address)
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    sock.sendall(head.encode() + content)
    return sock


def num_live(server: Running) -> int:
    return len(server.service.live)


@pytest.mark.parametrize("is_stream", [False, True])
def test_who_leaves_while_it_is_answered_ends_his_request(idle_server: Running, is_stream: bool):
    with asking(idle_server, {**LONG, "stream": is_stream}):
        assert eventually(lambda: idle_server.num_pages_held() > 2)

    assert eventually(lambda: num_live(idle_server) == 0, 1.0)
    assert eventually(lambda: idle_server.num_pages_held() == 0, 1.0)
    assert idle_server.service.outcomes == {"disconnected": 1}


def test_who_leaves_in_the_queue_is_never_served(idle_server: Running):
    with contextlib.ExitStack() as stack:
        running_ones = [stack.enter_context(asking(idle_server, LONG)) for _ in range(2)]
        assert eventually(lambda: idle_server.engine.stats.num_running == 2)
        with asking(idle_server, {**LONG, "stream": True}):
            assert eventually(lambda: num_live(idle_server) == 3)
        assert eventually(lambda: num_live(idle_server) == 2, 1.0)
        assert len(running_ones) == 2
    assert eventually(lambda: idle_server.service.outcomes == {"disconnected": 3})


def test_who_leaves_while_he_still_asks_starts_nothing(idle_server: Running):
    with socket.create_connection(idle_server.address, 5) as sock:
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000\r\n\r\n{"
        )
    time.sleep(0.05)

    assert num_live(idle_server) == 0
    assert idle_server.service.outcomes == {}


def test_a_hundred_who_leave_in_the_middle_leave_nothing(idle_server: Running):
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            socks = [
                stack.enter_context(asking(idle_server, {**LONG, "stream": True}))
                for _ in range(20)
            ]
            assert b"200 OK" in socks[0].recv(4096)
            assert eventually(lambda: num_live(idle_server) == 20)
        assert eventually(lambda: num_live(idle_server) == 0)
    assert idle_server.service.outcomes == {"disconnected": 100}


def test_samples_of_several_prompts_end_together(idle_server: Running):
    body = {**LONG, "prompt": ["a", "b", "c"], "n": 2, "stream": True}
    with asking(idle_server, body) as sock:
        assert b"200 OK" in sock.recv(65536)
        assert num_live(idle_server) == 3

    assert eventually(lambda: num_live(idle_server) == 0, 1.0)


def test_others_are_not_disturbed(idle_server: Running):
    ask = {**LONG, "max_tokens": 60, "seed": 4, "stream": True}
    with idle_server.client() as client:
        undisturbed = client.post("/v1/completions", json=ask).text

        async def among_leavers() -> str:
            answer = asyncio.to_thread(lambda: client.post("/v1/completions", json=ask).text)
            task = asyncio.create_task(answer)
            for _ in range(10):
                with asking(idle_server, {**LONG, "stream": True}):
                    await asyncio.sleep(0.03)
            return await task

        disturbed = asyncio.run(among_leavers())

    def text(stream: str) -> str:
        return "".join(each["choices"][0]["text"] for each in events(stream)[:-1])

    assert text(undisturbed) == text(disturbed) != ""


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the network held next to nothing, as it does for who reads a byte a second."""
    connection_made = LimitedHttp.connection_made

    def narrowed(self: LimitedHttp, transport: asyncio.Transport) -> None:
        connection_made(self, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        transport.set_write_buffer_limits(high=1024)

    monkeypatch.setattr(LimitedHttp, "connection_made", narrowed)


def test_slow_readers_find_their_tokens_merged_and_hold_nobody_up(small_buffers):
    """Their sockets are full, so what comes meanwhile waits in one delta each."""
    body = {**LONG, "stream": True, "return_token_ids": True}
    with running({"pretend": "constant:0.001", "max_num_seqs": 64}) as server:
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(asking(server, body)) for _ in range(50)]
            assert eventually(lambda: num_live(server) == 50)
            with server.client() as client:
                start = time.monotonic()
                quick = client.post("/v1/completions", json={**LONG, "max_tokens": 20})
                assert quick.status_code == 200
                assert time.monotonic() - start < 3
            assert eventually(lambda: server.num_pages_held() == 0, 15)
            assert num_live(server) == 50  # said, and not read
            found = b""
            while b"data: [DONE]" not in found:
                more = slow[0].recv(65536)
                assert more
                found += more
        chunks = [each["choices"][0]["token_ids"] for each in events(_body(found).decode())[:-1]]
        assert sum(map(len, chunks)) == 400
        assert max(map(len, chunks)) > 100
        assert server.call(server.service.idle(5))


def _body(answer: bytes) -> bytes:
    """Without the chunked encoding."""
    rest, found = answer.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        found, rest = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if int(size, 16) == 0:
            break
    return found
