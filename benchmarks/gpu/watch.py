"""Runs a part in processes of its own, until each of its cases has a row.

A process that crashes, hangs or does not answer in time is ended, what it had begun is written down
as failed, and a new one goes on with the next case.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from journal import Journal

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BEGINNING = 60.0  # seconds until a part's first case: imports and the device


@dataclass(frozen=True)
class Part:
    """A process, its budget and the longest that one case may take, in seconds.

    The cases are those of `module` whose names begin with one of `only`.  Parts of one module run
    side by side, which only those may do that measure no time.
    """

    name: str
    module: str
    budget: float
    longest: float
    about: str
    only: tuple[str, ...] = ("",)


def say(text: str, start: float) -> None:
    # in one piece: parts that run side by side speak at once
    sys.stdout.write(f"[{time.monotonic() - start:6.1f} s] {text}\n")
    sys.stdout.flush()


def log_of(folder: Path, part: Part) -> Path:
    """What its processes print."""
    return folder / f"{part.name}.log"


class Watched:
    """A part's process, and what its journal says."""

    def __init__(self, part: Part, folder: Path, is_dry: bool, start: float):
        self.part, self.start = part, start
        self.journal, self.log = Journal(folder, part.name), log_of(folder, part)
        words = ["--out", str(folder), "--run-part", part.name, part.module, *part.only]
        words = ["--dry-run", *words] if is_dry else words
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "run.py"), *words],
                env=environment(part, is_dry),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that it can be ended with its own children
            )

    def watch(self, deadline: float, seen: int) -> tuple[str, int]:
        """Until it ends, or has to: returns why, "" if it did well, and the lines seen."""
        since = time.monotonic() + BEGINNING
        while self.process.poll() is None:
            time.sleep(0.1)
            now, lines = time.monotonic(), self.journal.lines()
            if len(lines) > seen:
                self._tell(lines[seen:])
                seen, since = len(lines), now
            if now > deadline:
                return self._end("the part's time was up"), seen
            if now - since > self.part.longest:
                return self._end(f"hung: no answer for {self.part.longest:.0f} s"), seen
        lines = self.journal.lines()
        self._tell(lines[seen:])
        code = self.process.returncode
        said = self.log.read_text(errors="replace").strip().split("\n")[-3:]
        last = " ".join(" ".join(said).split())[-300:]
        return f"the process ended with code {code}: {last}" if code else "", len(lines)

    def _end(self, reason: str) -> str:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return reason

    def _tell(self, lines: list[dict]) -> None:
        for line in lines:
            if "error" in line:
                say(f"{self.part.name} · {line['case']}: FAILED, {line['error']}", self.start)
            elif "case" in line:
                share = "" if line["share"] is None else f", {line['share']:.1%} of {line['of']}"
                wrong = "" if line["verdict"] in (True, None) else "  BELOW"
                what = f"{line['value']:.4g} {line['unit']}{share}{wrong} {line['note']}"
                say(f"{self.part.name} · {line['case']}: {what.strip()}", self.start)


def environment(part: Part, is_dry: bool) -> dict[str, str]:
    paths = [ROOT, HERE, HERE.parent, ROOT / "tests" / "kernels"]
    known = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *filter(None, [known])])}
    env["HF_HUB_OFFLINE"] = "1"
    if part.only != ("",):  # several share the device
        env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return {**env, "JAX_PLATFORMS": "cpu"} if is_dry else env


def run_part(part: Part, folder: Path, is_dry: bool, deadline: float, start: float) -> None:
    """Runs all cases of a part, in as many processes as it takes."""
    say(f"{part.name}: {part.about}", start)
    journal, seen = Journal(folder, part.name), 0
    while True:
        begun = len(journal.begun())
        watched = Watched(part, folder, is_dry, start)
        try:
            reason, seen = watched.watch(deadline, seen)
        finally:
            if watched.process.poll() is None:
                watched._end("")
        if not reason:
            return
        lost = journal.open_case()
        if lost is not None or len(journal.begun()) == begun:
            journal.fail(lost or "beginning", reason)
            say(f"{part.name} · {lost or 'beginning'}: FAILED, {reason}", start)
            seen = len(journal.lines())
        if time.monotonic() > deadline or len(journal.begun()) == begun:
            return
