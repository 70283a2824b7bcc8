"""A full disk, too few file handles, too little memory."""

import re
import resource
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from answers import Load, stream
from inner_faults import REAL
from row import STEPS, Row, begun, now, row, undisturbed
from served import eventually

WITNESSES = [stream(400, seed) for seed in range(8)]
SHORT = [stream(60, seed) for seed in range(4)]
MIB = 1 << 20
TINY = 4096  # bytes that a file may have where the disk is full


@row("21", "disk full: the log")
def no_room_for_the_log(row: Row) -> None:
    """stdout is /dev/full: lines are lost, and nothing else."""
    with row.serving(stdout="/dev/full") as server:
        expected = undisturbed(server, WITNESSES)
        row.unharmed(Load(server.address, WITNESSES), expected)
        row.lives(server)


def only_tiny_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (TINY, TINY))


@row("21c", "disk full: the cache of compiled steps, the real model")
def no_room_for_the_cache(row: Row) -> None:
    """No file may have more than 4 KB: what JAX writes is cut off.  The next start, with room,
    takes that away."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"XDG_CACHE_HOME": folder}
        with row.serving(*REAL, limit=only_tiny_files, env=env) as server:
            expected = undisturbed(server, SHORT)
            row.lives(server)
        broken = sizes_of(folder)
        row.expect(TINY in broken, "no entry was cut off: this shows nothing")
        with row.serving(*REAL, env=env) as server:
            row.unharmed(Load(server.address, SHORT), expected)
            row.expect("Error reading" not in server.errors, "the next start stumbles over it")
            row.lives(server)
        row.expect(TINY not in sizes_of(folder), "broken entries are left")
        row.note += f" {broken.count(TINY)} of {len(broken)} were cut off."


def sizes_of(folder: str) -> list[int]:
    return [path.stat().st_size for path in Path(folder).glob("jpaged/xla/*-cache")]


def few_handles() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@row("22", "64 file handles, and 200 connections at once")
def too_few_handles(row: Row) -> None:
    """Connections beyond the limit are closed, health's among them; then the engine is killed.  It
    serves again `seconds` after the connections have gone."""
    flags = (*STEPS, "--engine-restarts", "9")
    with row.serving(*flags, limit=few_handles) as server, ExitStack() as stack:
        expected = undisturbed(server, WITNESSES)
        load = begun(server, WITNESSES)
        for _ in range(200):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(5)
            sock.connect(server.address)
        row.unharmed(load, expected)
        server.engine.kill()
        time.sleep(2)
        began = now()
        stack.close()
        row.expect(eventually(lambda: server.health() == 200, 40), "it does not come back")
        row.seconds = now() - began
        row.lives(server)


@row("20m", "no memory in earnest: the engine's is limited in the middle")
def little_memory(row: Row) -> None:
    """It may have no byte more (RLIMIT_AS), and is asked for 3,600 tokens in a step, again and
    again; `--engine-restarts 1`."""
    flags = ("--num-pages", "2000", "--max-num-batched-tokens", "4096", "--warmup", "minimal")
    with row.serving(*flags, "--engine-restarts", "1") as server:
        load = begun(server, [stream(900, seed) for seed in range(4)])
        server.engine.rlimit(resource.RLIMIT_AS, (MIB, MIB))
        for seed in range(10):
            large = Load(server.address, [stream(3, seed, prompt=[9 + n] * 900) for n in range(4)])
            large.join(20)
            if set(large.kinds) != {"whole"}:
                break
        load.join(20)
        row.note += f" The last prompts ended: {dict(large.kinds)}. {told(server.errors)}"
        row.tally(load, "whole", "failed", "refused")
        row.expect("waits" not in large.kinds, "prompts wait for ever")
        row.expect(eventually(lambda: server.health() == 200, 40), "it does not come back")
        row.lives(server)


def told(errors: str) -> str:
    """What the log gives as the reason."""
    found = re.search(r"failed: (.*)", errors)
    return f"The log: {found[1][:100]}." if found else "The log says nothing of it."


@row("23", "peer of a tensor-parallel engine killed")
def peer(row: Row) -> None:
    """Not built: an engine is one process."""


@row("24", "Ray replica killed in the middle of a stream")
def replica(row: Row) -> None:
    """Not built: there is no Ray deployment."""
