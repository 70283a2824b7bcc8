"""A server in the background that lives as long as somebody uses it.

    jpaged run ──holds──► lease, a file with a shared lock ◄──waits for it to be free── server
                                                                     then: SIGTERM to itself

Whoever talks to it holds the lease.  The kernel takes a lock from a process that ends, however it
ends, so that no server is left over; and who comes while it ends gets no lock, and starts another.
"""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from jpaged.errors import ConfigError
from jpaged.server import registry
from jpaged.server.registry import Entry

SUFFIX = ".lease"
KEPT = "kept"  # in a lease: the server stays when all have left
POLL_SECONDS = 0.05


@contextmanager
def lease_of(entry: Entry, keep: bool = False) -> Iterator[bool]:
    """Keeps a server from ending meanwhile.  False if it is about to.

    One that a user started has no lease, and ends when he says so.
    """
    try:
        file = open(registry.path_of(entry.pid, SUFFIX), "r+")
    except FileNotFoundError:
        yield True
        return
    with file:
        is_held = _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if is_held and keep:
            file.write(KEPT)
            file.flush()
        yield is_held


@contextmanager
def started(words: Sequence[str], keep: bool) -> Iterator[Entry]:
    """`jpaged serve` with these words, once it serves.  It ends when nobody is left.

    Raises `ConfigError` with what it said, if it ends instead.
    """
    registry.folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    registry.forget(SUFFIX)
    number, name = tempfile.mkstemp(SUFFIX, "new-", registry.folder())
    with open(number, "w") as file, tempfile.TemporaryFile("w+", errors="replace") as log:
        _lock(file, fcntl.LOCK_SH)
        file.write(KEPT if keep else "")
        file.flush()
        server = subprocess.Popen(
            [sys.executable, "-m", "jpaged.cli.background", name, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for who talks to it
        )
        yield _ready(server, log)


def _ready(server: subprocess.Popen, log: IO[str]) -> Entry:
    while server.poll() is None:
        for entry in registry.running():
            if entry.pid == server.pid:
                return entry
        time.sleep(POLL_SECONDS)
    raise ConfigError(_last_line(log).removeprefix("jpaged: ") or "the server did not start")


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = log.read().split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    return True


def main() -> int:
    """The server's side: `python -m jpaged.cli.background LEASE serve …`."""
    from jpaged.cli import main as jpaged

    lease = registry.path_of(os.getpid(), SUFFIX)
    Path(sys.argv[1]).rename(lease)  # those who look for it know my number
    threading.Thread(target=_end_when_free, args=(lease,), daemon=True).start()
    try:
        return jpaged(sys.argv[2:])
    finally:
        lease.unlink(missing_ok=True)


def _end_when_free(lease: Path) -> None:
    with open(lease) as file:
        _lock(file, fcntl.LOCK_EX)
        if file.read() != KEPT:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()  # holding the lock: nobody shall count on this server


if __name__ == "__main__":
    sys.exit(main())
