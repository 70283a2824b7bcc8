"""Faults of what a server stands on: its engine, its disk, its handles, its clients' hosts.

`benchmarks/faults` does these and more with streams that run meanwhile, and writes a table.
"""

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from servers import Process, eventually, process, running
from test_disconnects import LONG, asking, num_live
from test_serve_command import engines_of

from jpaged.cli.serve import MOST_HANDLES
from jpaged.server import limits, registry

ROOT = Path(__file__).parent.parent.parent
FLAGS = ("demo", "--port", "0", "--pretend", "constant:step=0.01,token=0.001")
HANDLES, NUM_HANDLES = 64, resource.RLIMIT_NOFILE


@pytest.fixture(scope="module")
def poor_server() -> Iterator[Process]:
    """One with few file handles, that begins engines anew."""
    soft, hard = resource.getrlimit(NUM_HANDLES)
    with ExitStack() as stack:
        resource.setrlimit(NUM_HANDLES, (min(hard, 1000), hard))  # as systems have it
        stack.callback(resource.setrlimit, NUM_HANDLES, (soft, hard))
        server = stack.enter_context(process(*FLAGS, "--engine-restarts", "9"))
        handles = psutil.Process(server.process.pid)
        assert handles.rlimit(NUM_HANDLES)[0] == min(
            hard, MOST_HANDLES
        )  # it asks for more by itself
        handles.rlimit(NUM_HANDLES, (HANDLES, hard))
        yield server


def answers(server: Process) -> bool:
    """Whether it lets one in, and says something."""
    with server.client() as client:
        try:
            answer = client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 2})
        except httpx.TransportError:
            return False
        return answer.status_code == 200


def test_an_engine_that_is_killed_in_the_middle_of_a_prompt_fails_it_with_an_error(poor_server):
    with poor_server.client() as client, ExitStack() as stack:
        [engine] = engines_of(poor_server)
        sock = stack.enter_context(socket.create_connection(address_of(poor_server), 10))
        sock.sendall(a_long_prompt())
        assert eventually(lambda: client.get("/load").json() == {"server_load": 1})
        time.sleep(0.2)  # a prompt of 900 tokens takes 0.9 s

        engine.kill()

        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")
        assert eventually(lambda: client.get("/health").status_code == 200, 20)
    assert answers(poor_server)


def a_long_prompt() -> bytes:
    content = b'{"prompt": [%s], "max_tokens": 5}' % b", ".join([b"9"] * 900)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(content) + content


def address_of(server: Process) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


def test_who_finds_no_file_handle_harms_no_stream_and_the_server_comes_back(poor_server):
    with poor_server.client() as client, ExitStack() as stack:
        body = {"prompt": "Hi", "max_tokens": 100, "ignore_eos": True, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as stream:
            lines = stream.iter_lines()
            assert next(lines)
            for _ in range(2 * HANDLES):
                sock = stack.enter_context(socket.socket())
                sock.connect(address_of(poor_server))
            assert [line for line in lines if line][-1] == "data: [DONE]"
        stack.close()
        assert eventually(lambda: answers(poor_server))


def test_a_log_on_a_full_disk_costs_lines_and_no_more(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with open("/dev/full", "w") as full, open(tmp_path / "err", "w+") as err:
        server = subprocess.Popen(
            [sys.executable, "-m", "jpaged", "serve", *FLAGS], stdout=full, stderr=err
        )
        try:
            assert eventually(registry.running, 20), (tmp_path / "err").read_text()
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0
        finally:
            server.kill()
            server.wait()
    assert "Traceback" not in (tmp_path / "err").read_text()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such thing")
def test_who_takes_nothing_for_long_is_given_up(monkeypatch):
    """Its host may have vanished; what was said to it waits in vain."""
    monkeypatch.setattr(limits, "STALLED_SECONDS", 0.5)
    with running({"pretend": "constant:0.0005"}) as server:
        body = {**LONG, "stream": True, "logprobs": 20}
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(asking(server, body))
            assert eventually(lambda: num_live(server) == 4)
            assert eventually(lambda: num_live(server) == 0, 10)
            assert server.num_pages_held() == 0


@pytest.mark.slow
def test_all_faults_end_as_they_should(tmp_path: Path):
    """Four minutes."""
    words = ["--results", str(tmp_path / "faults.json"), "--table", str(tmp_path / "FAULTS.md")]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "faults", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_minute_of_traffic_and_dying_engines_leaves_nothing(tmp_path: Path):
    words = ["--results", str(tmp_path / "faults.json"), "--table", str(tmp_path / "FAULTS.md")]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "faults", "--soak", "60", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
