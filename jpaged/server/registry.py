"""The servers that run here, a small file each: how `jpaged ps`, `stop` and `run` find them.

    ~/.local/state/jpaged/servers/HOST-PID.json     {"pid": …, "born": …, "url": …, "models": …}

A server writes its file when it serves and takes it away when it ends.  One that could not is told
by its process: if that is gone, or another has its number, whoever looks takes the file away.
Homes are shared between machines, so only those of this one are looked at.
"""

import atexit
import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger(__name__)
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where one listens -> where one is reached


@dataclass(frozen=True)
class Entry:
    """A server.  born: when its process began, which tells it from a later one of its number.

    models: what each is called, and the folder it lies in.  since: seconds since 1970.
    """

    pid: int
    born: str
    url: str
    models: dict[str, str]
    since: float

    @property
    def is_alive(self) -> bool:
        return birth_of(self.pid) == self.born


def enter(host: str, port: int, models: Mapping[str, str]) -> None:
    """Lists this process from now until it ends.  A server serves even where that cannot be."""
    pid = os.getpid()
    url = url_of(EVERYWHERE.get(host, host), port)
    entry = Entry(pid, birth_of(pid) or "", url, dict(models), time.time())
    try:
        path = path_of(pid)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, json.dumps(asdict(entry)))
    except OSError as error:
        log.warning("`jpaged ps` will not show this server: %s", error)
        return
    atexit.register(path.unlink, missing_ok=True)


def running() -> list[Entry]:
    """The servers of this machine and user, oldest first.  Forgets those that are gone."""
    entries = []
    for path in _files(".json"):
        entry = _read(path)
        if entry is not None and entry.is_alive:
            entries.append(entry)
        else:
            path.unlink(missing_ok=True)
    return sorted(entries, key=lambda entry: entry.since)


def forget(suffix: str, seconds: float = 0.0) -> None:
    """Takes away what processes left that are gone, if nobody wrote there for so long."""
    oldest = time.time() - seconds
    for path in _files(suffix):
        is_left = birth_of(int(path.stem.removeprefix(_prefix()))) is None
        with suppress(FileNotFoundError):  # somebody else takes it away, too
            if is_left and path.stat().st_mtime <= oldest:
                path.unlink()


def path_of(pid: int, suffix: str = ".json") -> Path:
    """The file of a process of this machine."""
    return folder() / f"{_prefix()}{pid}{suffix}"


def folder() -> Path:
    """As the XDG base directory specification says."""
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return home / "jpaged" / "servers"


def url_of(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def birth_of(pid: int) -> str | None:
    """When a process began, in words that no other one of its number has.  None if it is gone."""
    try:
        # its name stands in parentheses and may hold anything; behind them: state, …, start time
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _birth_by_ps(pid)
    except ProcessLookupError:
        return None
    return None if words[0] in "ZX" else f"{_boot()}/{words[19]}"


def _boot() -> str:
    """Start times count from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _birth_by_ps(pid: int) -> str | None:
    """Where there is no /proc."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def _files(suffix: str) -> list[Path]:
    if not folder().is_dir():
        return []
    return [
        path
        for path in folder().iterdir()
        if path.name.startswith(_prefix())
        and path.suffix == suffix
        and path.name[len(_prefix()) : -len(suffix)].isdigit()
    ]


def _prefix() -> str:
    return f"{socket.gethostname()}-"


def _write(path: Path, text: str) -> None:
    """All at once: who reads meanwhile finds the whole file or none."""
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _read(path: Path) -> Entry | None:
    """None for what no server of ours wrote, or has taken away by now."""
    try:
        return Entry(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
