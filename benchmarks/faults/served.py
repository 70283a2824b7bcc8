"""A server under test: `jpaged serve` in a process of its own, and what is seen from outside."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

START_SECONDS = 60.0
LAST_SECONDS = 10.0  # for a server that ends


class Served:
    """flags: of `jpaged serve demo`.  limit: called in the new process before it begins.  stdout:
    where its log goes, a file of its own if None.  fault: what goes wrong inside, see `inject`.
    family: the children that it ever had, as far as is known."""

    def __init__(
        self,
        *flags: str,
        limit: Callable[[], None] | None = None,
        stdout: str | None = None,
        fault: str = "",
        env: dict[str, str] | None = None,
        host: str = "127.0.0.1",
    ):
        self.home = Path(tempfile.mkdtemp(prefix="faults-"))
        self.address = host, _free_port(host)
        command = [sys.executable, "-m", "jpaged", "serve", "demo", "--host", host]
        with open(stdout or self.home / "out", "w") as out, open(self.home / "err", "w") as err:
            self.process = psutil.Popen(
                [*command, "--port", str(self.address[1]), *flags],
                stdout=out,
                stderr=err,
                preexec_fn=limit,
                env=self._environment(fault) | (env or {}),
            )
        self.family: list[psutil.Process] = []
        try:
            if not eventually(self._is_up, START_SECONDS):
                self._complain()
        except BaseException:
            self.close()
            raise

    def _environment(self, fault: str) -> dict[str, str]:
        own = {"XDG_STATE_HOME": str(self.home / "state"), "JPAGED_FAULT": fault}
        inject = str(Path(__file__).parent / "inject")
        paths = [inject, *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | own | ({"PYTHONPATH": os.pathsep.join(paths)} if fault else {})

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            self._complain()
        return self.health() == 200

    def _complain(self) -> None:
        raise RuntimeError(f"the server did not start: {self.errors[-2000:]}")

    @property
    def errors(self) -> str:
        """What it said on stderr."""
        return (self.home / "err").read_text(errors="replace")

    @property
    def engine(self) -> psutil.Process:
        """The engine's process that serves now."""
        [found] = [each for each in self.process.children() if _runs(each, "engine_process")]
        return found

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and content; 0 if there is no answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def health(self) -> int:
        return self.get("/health")[0]

    def metric(self, name: str) -> float:
        text = self.get("/metrics")[1].decode()
        found = re.search(rf"^vllm:{name}(?:{{.*?}})? (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else float("nan")

    def live(self) -> int:
        """Requests under way."""
        status, content = self.get("/load")
        return json.loads(content)["server_load"] if status == 200 else -1

    def is_idle(self) -> bool:
        names = ("kv_cache_usage_perc", "num_requests_running", "num_requests_waiting")
        return not self.live() and not any(self.metric(name) for name in names)

    def remember_family(self) -> None:
        """Who must not outlive it."""
        self.family = [*{*self.family, *self.process.children(recursive=True)}]

    def orphans(self, seconds: float = 5.0) -> int:
        return len(psutil.wait_procs(self.family, timeout=seconds)[1])

    def exit_code(self, seconds: float = LAST_SECONDS) -> int | None:
        """None if it goes on."""
        with suppress(psutil.TimeoutExpired, subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def close(self) -> None:
        """Whatever is left of it goes."""
        if self.process.is_running() and self.process.poll() is None:
            self.remember_family()
            self.process.kill()
            self.process.wait(LAST_SECONDS)
        for each in psutil.wait_procs(self.family, timeout=3)[1]:
            each.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Watch(threading.Thread):
    """Asks for /health again and again: `seen` are the different answers in turn, and when."""

    def __init__(self, server: Served):
        super().__init__(daemon=True)
        self.server, self.seen = server, [(server.health(), time.monotonic())]
        self.is_over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.is_over.wait(0.05):
            status = self.server.health()
            if status != self.seen[-1][0]:
                self.seen.append((status, time.monotonic()))

    def stop(self) -> None:
        self.is_over.set()
        self.join(5)

    @property
    def statuses(self) -> list[int]:
        return [status for status, _ in self.seen]

    def first(self, status: int) -> float | None:
        """When it was first so."""
        return next((when for each, when in self.seen if each == status), None)

    def __str__(self) -> str:
        return " → ".join("gone" if status == 0 else str(status) for status in self.statuses)


def _runs(process: psutil.Process, word: str) -> bool:
    try:
        return any(word in each for each in process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def _free_port(host: str) -> int:
    with socket.socket() as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


def eventually(holds: Callable[[], Any], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
