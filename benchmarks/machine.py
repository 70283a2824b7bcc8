"""What the figures were measured on, and what else was running."""

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

GUESTS = -1  # no process has this id
STEAL = 8  # of the first line of /proc/stat
PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def describe() -> dict:
    """Machine, commit and versions, for the head of a result."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?"
    )
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    kinds = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(kinds)})"


def _commit() -> str:
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def foreign_load(own: list[int] = ()) -> float:
    """Cores that other processes kept busy over a second: a figure above 0.1 spoils a result."""
    before = busy_elsewhere(own)
    time.sleep(1)
    return round(cores_since(before, 1.0, own), 2)


def cores_since(before: dict[int, int], seconds: float, own: list[int] = ()) -> float:
    """Cores that others kept busy in so many seconds; who has ended meanwhile is not counted."""
    after = busy_elsewhere(own)
    ticks = sum(count - before.get(process, 0) for process, count in after.items())
    return ticks / os.sysconf("SC_CLK_TCK") / seconds


def busy_elsewhere(own: list[int] = ()) -> dict[int, int]:
    """Clock ticks used so far by processes that are not ours, and by other guests of the host."""
    found = {GUESTS: int(Path("/proc/stat").read_text().split()[STEAL])}
    for path in Path("/proc").glob("[0-9]*/stat"):
        process = int(path.parent.name)
        if process in (os.getpid(), *own):
            continue
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        found[process] = int(fields[11]) + int(fields[12])
    return found
