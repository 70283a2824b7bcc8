"""A server in the background that lives as long as somebody uses it.

    jpaged run ──holds──► lease, a file with a shared lock ◄──waits for it to be free── server
                                                                     then: SIGTERM to itself

Whoever talks to it holds the lease.  The kernel takes a lock from a process that ends, however it
ends, so that no server is left over; and who comes while it ends gets no lock, and starts another.

What the server says goes into a log beside its lease.  One that ends well takes it along.
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
LOG = ".log"
OURS = "jpaged: "  # before an error that says what to do
OLD_SECONDS = 7 * 24 * 3600.0  # for which the log of one that ended badly is kept
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
    registry.forget(LOG, OLD_SECONDS)
    number, name = tempfile.mkstemp(SUFFIX, "new-", registry.folder())
    with open(number, "w") as file:
        _lock(file, fcntl.LOCK_SH)
        file.write(KEPT if keep else "")
        file.flush()
        yield _ready(_begin(name, words))


def log_of(entry: Entry) -> Path:
    """Where a server in the background writes what it says."""
    return registry.path_of(entry.pid, LOG)


def _begin(lease: str, words: Sequence[str]) -> subprocess.Popen:
    number, name = tempfile.mkstemp(LOG, "new-", registry.folder())
    with open(number, "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jpaged.cli.background", lease, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for who talks to it
        )
    Path(name).rename(registry.path_of(server.pid, LOG))
    return server


def _ready(server: subprocess.Popen) -> Entry:
    while server.poll() is None:
        for entry in registry.running():
            if entry.pid == server.pid:
                return entry
        time.sleep(POLL_SECONDS)
    raise ConfigError(_why(registry.path_of(server.pid, LOG)))


def _why(log: Path) -> str:
    """What a server that did not start said of it; its log goes if that was all."""
    lines = [line.strip() for line in log.read_text(errors="replace").split("\n") if line.strip()]
    last = lines[-1] if lines else "the server did not start"
    if not last.startswith(OURS):
        return f"{last} (all that it said is in {log})"
    log.unlink()
    return last.removeprefix(OURS)


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
        code = jpaged(sys.argv[2:])
    finally:
        lease.unlink(missing_ok=True)
    if code == 0:
        registry.path_of(os.getpid(), LOG).unlink(missing_ok=True)
    return code


def _end_when_free(lease: Path) -> None:
    with open(lease) as file:
        _lock(file, fcntl.LOCK_EX)
        if file.read() != KEPT:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()  # holding the lock: nobody shall count on this server


if __name__ == "__main__":
    sys.exit(main())
