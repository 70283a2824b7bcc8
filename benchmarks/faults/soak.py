"""Minutes of mixed traffic, with clients that go away and an engine that is killed now and then."""

import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from answers import Address, Loop, chat, request, stream
from row import STEPS
from served import Served, eventually

CLIENTS, LEAVERS = 24, 4
WARM_UP = 15.0  # seconds, until buffers and heaps have their sizes
BETWEEN_KILLS = 12.0
FLAGS = (*STEPS, "--engine-restarts", "1000", "--num-pages", "1000", "--max-num-seqs", "16")
ENDS = {"whole", "failed 503", "refused 503"}
MIB = 1 << 20


def soak(seconds: float, piece: float, before: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A server for each piece of so many seconds; `before`: pieces that there are already."""
    pieces, until = list(before), time.monotonic() + seconds - 0.5
    while time.monotonic() < until:
        pieces.append(one_piece(min(piece, until - time.monotonic()), seed=len(pieces)))
        print(f"piece {len(pieces)}: {pieces[-1]}", flush=True)
    return together(pieces)


def together(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": sum(each["seconds"] for each in pieces),
        "clients": CLIENTS,
        "warm_up": WARM_UP,
        "between_kills": BETWEEN_KILLS,
        "kinds": sum((Counter(each["kinds"]) for each in pieces), Counter()),
        "left": sum(each["left"] for each in pieces),
        "kills": sum(each["kills"] for each in pieces),
        "pieces": pieces,
        "problems": [problem for each in pieces for problem in each["problems"]],
    }


def one_piece(seconds: float, seed: int) -> dict[str, Any]:
    began, problems = time.monotonic(), []
    with Served(*FLAGS) as server:
        kinds, left, kills = traffic(server, WARM_UP, seed, problems)
        before = held(server)
        more = traffic(server, began + seconds - time.monotonic(), seed + 1000, problems)
        after = held(server)
        server.remember_family()
        server.process.send_signal(signal.SIGTERM)
        if server.exit_code() != 0:
            problems.append(f"exit code {server.exit_code(0)}")
        if server.orphans():
            problems.append("processes are left")
    kinds += more[0]
    problems += [f"requests ended {kind}" for kind in set(kinds) - ENDS]
    if after["handles"] > before["handles"]:
        problems.append(f"{after['handles']} handles, {before['handles']} before")
    return {
        "seconds": time.monotonic() - began,
        "kinds": kinds,
        "left": left + more[1],
        "kills": kills + more[2],
        "held": {name: (before[name], after[name]) for name in before},
        "problems": problems,
    }


def traffic(
    server: Served, seconds: float, seed: int, problems: list[str]
) -> tuple[Counter[str], int, int]:
    """How requests ended, how many went away, and how often the engine was killed."""
    rng = random.Random(seed)
    load = Loop(server.address, CLIENTS, lambda number: anything(rng, number))
    leavers = [Leaver(server.address, random.Random(seed + n)) for n in range(LEAVERS)]
    until, kills = time.monotonic() + seconds, 0
    while time.monotonic() + BETWEEN_KILLS < until:
        time.sleep(BETWEEN_KILLS)
        server.remember_family()
        server.engine.kill()
        kills += 1
        if not eventually(lambda: server.health() == 503, 2):
            problems.append("health did not say so")
        if not eventually(lambda: server.health() == 200, 20):
            problems.append("no engine came back")
    time.sleep(max(0.0, until - time.monotonic()))
    load.stop()
    for each in leavers:
        each.stop()
    if not eventually(server.is_idle):
        problems.append(f"pages are held: {server.metric('kv_cache_usage_perc'):g}")
    return load.kinds, sum(each.count for each in leavers), kills


def anything(rng: random.Random, number: int) -> bytes:
    """A request of one of many kinds."""
    tokens, body = rng.randint(1, 120), {"prompt": "Once", "ignore_eos": True}
    match rng.randrange(6):
        case 0:
            return chat(f"Hello, {number}", max_tokens=tokens, stream=True)
        case 1:
            return request("/v1/completions", {**body, "max_tokens": tokens, "n": 3})
        case 2:
            return stream(5, number, prompt=[rng.randint(5, 900) for _ in range(300)])
        case 3:
            return stream(tokens, number, logprobs=5, n=2)
    return stream(tokens, number)


class Leaver(threading.Thread):
    """Asks, reads a little or nothing, and goes away; again and again."""

    def __init__(self, address: Address, rng: random.Random):
        super().__init__(daemon=True)
        self.address, self.rng, self.count = address, rng, 0
        self.is_over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.is_over.wait(self.rng.uniform(0, 0.2)):
            with socket.socket() as sock:
                sock.settimeout(5)
                try:
                    sock.connect(self.address)
                    sock.sendall(stream(500, self.count))
                    if self.rng.random() < 0.7:
                        sock.recv(256)
                except OSError:  # there is no engine just now
                    continue
                self.is_over.wait(self.rng.uniform(0, 0.3))
            self.count += 1

    def stop(self) -> None:
        self.is_over.set()
        self.join(10)


def handles(server: Served) -> int:
    """Without those of connections that are still being closed."""
    found = []
    for _ in range(20):
        found.append(server.process.num_fds())
        time.sleep(0.05)
    return min(found)


def held(server: Served) -> dict[str, float]:
    """Memory in MiB, and handles, of the server, and of its engine, which may be a new one."""
    return {
        "server_MiB": round(server.process.memory_info().rss / MIB, 1),
        "handles": handles(server),
        "threads": server.process.num_threads(),
        "engine_MiB": round(server.engine.memory_info().rss / MIB, 1),
        "pages": server.metric("kv_cache_usage_perc"),
    }
