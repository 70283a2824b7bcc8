"""What a real server says to malformed requests and bad checkpoints, for deploy/REFUSALS.md.

python tests/server/refusals.py requests checkpoints     writes both tables there
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import httpx
from bad_checkpoints import REFUSED, SERVED, SPRUNG, make
from malformed import BODIES, FIELDS, HEADERS, KEYS, ROUTES, TEXT, WIRE
from servers import Process, events, process, raw, status_of

DOCUMENT = Path(__file__).parents[2] / "deploy" / "REFUSALS.md"
FLAGS = ("demo", "--port", "0", "--pretend", "constant:0.001", "--no-log-requests")
JSON = {"content-type": "application/json"}
NUM_STREAMS, NUM_TOKENS = 4, 400
MOST_CHARS = 150


class Refusal(NamedTuple):
    """status: of HTTP, or of a process.  Whether it was refused is the reader's to judge."""

    what: str
    status: int
    said: str
    seconds: float


class Bystander(threading.Thread):
    """Somebody who reads one stream after another meanwhile."""

    def __init__(self, url: str):
        super().__init__()
        self.url, self.is_over = url, threading.Event()
        self.num_whole, self.longest_pause = 0, 0.0

    def run(self) -> None:
        body = {"prompt": "Hi", "max_tokens": NUM_TOKENS, "ignore_eos": True, "stream": True}
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            while not self.is_over.is_set():
                self._read(client, body)

    def _read(self, client: httpx.Client, body: dict) -> None:
        lines, last = [], time.monotonic()
        with client.stream("POST", "/v1/completions", json=body) as stream:
            for line in stream.iter_lines():
                now = time.monotonic()
                self.longest_pause = max(self.longest_pause, now - last)
                lines.append(line)
                last = now
        *chunks, end = events("\n".join(lines))
        assert end == "[DONE]" and chunks[-1]["choices"][0]["finish_reason"] == "length"
        self.num_whole += 1


def requests_with_streams(optimize: str = "") -> tuple[list[Refusal], list[Bystander]]:
    """All that malformed.py has, sent while others read their streams.

    optimize: "1" for a Python that leaves assertions out.
    """
    env = {"PYTHONOPTIMIZE": optimize}
    with (
        process(*FLAGS, env=env) as server,
        process(*FLAGS, env={**env, "JPAGED_API_KEY": "KEY"}) as guarded,
    ):
        others = [Bystander(server.url) for _ in range(NUM_STREAMS)]
        for other in others:
            other.start()
        found = [*_by_client(server), *_by_socket(server.url, _routes() | WIRE)]
        found += _by_socket(guarded.url, KEYS)
        for other in others:
            other.is_over.set()
        for other in others:
            other.join()
        with server.client() as client:
            assert client.get("/health").status_code == 200
            assert client.get("/load").json() == {"server_load": 0}
    return found, others


def _routes() -> dict[str, tuple[bytes, int]]:
    return {
        what: (f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(), status)
        for what, (method, path, status) in ROUTES.items()
    }


def _by_client(server: Process) -> Iterator[Refusal]:
    path = "/v1/completions"
    with server.client() as client:
        answers = {
            **{what: lambda f=f: client.post(f[0], json=f[1]) for what, f in FIELDS.items()},
            **{
                f"the body is {what}": lambda b=b: client.post(path, content=b[0], headers=JSON)
                for what, b in BODIES.items()
            },
            **{
                f"{what}, in a header": lambda h=h: client.post(path, json=TEXT, headers=h[0])
                for what, h in HEADERS.items()
            },
        }
        for what, ask in answers.items():
            answer = ask()
            message = answer.json()["error"]["message"]
            yield Refusal(what, answer.status_code, message, answer.elapsed.total_seconds())


def _by_socket(url: str, cases: dict[str, tuple[bytes, int]]) -> Iterator[Refusal]:
    host, _, port = url.removeprefix("http://").partition(":")
    for what, (request, _) in cases.items():
        begun = time.monotonic()
        answer = raw((host, int(port)), request)
        message = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
        yield Refusal(what, status_of(answer), message, time.monotonic() - begun)


def checkpoint(what: str) -> Refusal:
    """What `jpaged serve FOLDER` says of a bad one, or, if it serves it, what a chat is told."""
    with tempfile.TemporaryDirectory() as place:
        spoil, _ = REFUSED.get(what) or SERVED[what]
        folder = make(Path(place) / "model", spoil)
        begun = time.monotonic()
        status, said = _refusal(folder) if what in REFUSED else _chat(folder)
        assert not (folder / SPRUNG).exists(), f"{what}: its code ran"
        return Refusal(what, status, said.replace(str(folder), "FOLDER"), time.monotonic() - begun)


def _refusal(folder: Path) -> tuple[int, str]:
    port = _free_port()
    command = [sys.executable, "-m", "jpaged", "serve", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        while server.poll() is None:
            assert not _is_open(port)
            time.sleep(0.02)
        assert server.stderr is not None
        return server.returncode, server.stderr.read().rstrip("\n").removeprefix("jpaged: ")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _chat(folder: Path) -> tuple[int, str]:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    flags = ("--port", "0", "--warmup", "none", "--chat-template-timeout", "1")
    with process(str(folder), *flags) as server, closing(server.client()) as client:
        answer = client.post("/v1/chat/completions", json=body)
    error = answer.json().get("error")
    return answer.status_code, error["message"] if error else "(an answer)"


def table(heads: tuple[str, str, str], rows: list[Refusal]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|"]
    lines += [f"| {_cell(row.what)} | {row.status} | {_cell(row.said)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """In one line that neither a terminal nor Markdown reads as more than text."""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    short = plain if len(plain) <= MOST_CHARS else plain[: MOST_CHARS - 1] + "…"
    for special in "|<*_`":
        short = short.replace(special, "\\" + special)
    return short


def section(name: str) -> str:
    """What stands in the document now."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]


def write(name: str, new: str) -> None:
    text, old = DOCUMENT.read_text(encoding="utf-8"), section(name)
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    DOCUMENT.write_text(text.replace(begin + old + end, begin + new + end), encoding="utf-8")


def requests_table(rows: list[Refusal]) -> str:
    return table(("request", "status", "error.message"), rows)


def checkpoints_table(rows: list[Refusal]) -> str:
    return table(("checkpoint", "exit code or status", "what it says"), rows)


def main(names: list[str]) -> None:
    if "requests" in names:
        rows, others = requests_with_streams()
        write("requests", requests_table(rows))
        statuses, seconds = {row.status for row in rows}, [row.seconds for row in rows]
        pause = max(other.longest_pause for other in others)
        num_whole = sum(other.num_whole for other in others)
        print(f"{len(rows)} requests: {sorted(statuses)}, the slowest in {max(seconds):.2f} s")
        print(f"meanwhile {num_whole} whole streams, the longest pause {pause:.3f} s")
    if "checkpoints" in names:
        found = []
        for what in (*REFUSED, *SERVED):
            found.append(checkpoint(what))
            print(f"{found[-1].seconds:5.1f} s  {found[-1].status}  {what}", flush=True)
        write("checkpoints", checkpoints_table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
