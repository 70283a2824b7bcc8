"""Servers for tests: in a thread of this process, or in a process as a user starts it."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

from jpaged.engine.async_engine import AsyncLLMEngine
from jpaged.server.options import ServerOptions
from jpaged.server.serve import Exit, Server

SMALL = {
    "page_size": 4,
    "num_pages": 512,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 64,
    "max_model_len": 512,
    "use_tqdm_on_load": False,
    "warmup": "full",  # a compiler in the background would race for Python's warning filters
}
# few shapes to compile
DEMO = {**SMALL, "max_num_seqs": 4, "max_num_batched_tokens": 16, "max_model_len": 128}
START_SECONDS = 60.0
PRETEND = {"pretend": "constant:0.002"}


class Running:
    """A server in a thread.  `engine` and `service` are its own, to look at."""

    def __init__(self, engine_options: dict[str, Any], **options: Any):
        self.options = ServerOptions(port=0, **options)
        self._engine_options = {**SMALL, **engine_options}
        self._ready = threading.Event()
        self.exit: Exit | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError("the server did not start")
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server([("demo", "demo")], self._launch, self.options)
        self.service = self.server.service
        self.exit = await self.server.run(lambda _: self._ready.set())

    async def _launch(self, name: str, path: str) -> AsyncLLMEngine:
        return await asyncio.to_thread(AsyncLLMEngine, path, **self._engine_options)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def engine(self) -> Any:
        return self.service.models.find("").engine

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=False, **options)

    def call(self, coroutine: Any) -> Any:
        """What a coroutine returns, run where the server runs."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.stop)

    def close(self) -> None:
        while self._thread.is_alive():
            self.stop()
            self._thread.join(0.5)

    def num_pages_held(self) -> int:
        return self.call(self.engine.page_report()).held


@contextlib.contextmanager
def running(engine_options: dict[str, Any] | None = None, **options: Any) -> Iterator[Running]:
    server = Running(PRETEND if engine_options is None else engine_options, **options)
    try:
        yield server
    finally:
        server.close()


class Process:
    """`jpaged serve demo …` as a user starts it."""

    def __init__(self, *flags: str, env: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jpaged", "serve", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"at (http://\S+)", self.line)
        if found is None:
            _, err = self.process.communicate(timeout=10)
            self.process.stdout.close()
            raise RuntimeError(f"it did not start: {self.line}{err}")
        self.url = found[1]

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=False, **options)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """The exit code, and what it said on stderr."""
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextlib.contextmanager
def process(*flags: str, env: dict[str, str] | None = None) -> Iterator[Process]:
    server = Process(*flags, env=env)
    with server.process:
        try:
            yield server
        finally:
            server.process.kill()


def eventually(holds: Any, seconds: float = 5.0) -> bool:
    """Whether it comes to hold."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def events(text: str) -> list[Any]:
    """The data of a stream, "[DONE]" as it stands."""
    found = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def raw(address: tuple[str, int], data: bytes, seconds: float = 5.0) -> bytes:
    """What a server answers to these bytes, until it closes or has answered with a length."""
    with socket.create_connection(address, seconds) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
        found = b""
        while not _is_whole(found):
            try:
                more = sock.recv(65536)
            except (TimeoutError, ConnectionResetError):
                break
            if not more:
                break
            found += more
        return found


def _is_whole(answer: bytes) -> bool:
    head, is_there, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(is_there and length and len(body) >= int(length[1]))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
