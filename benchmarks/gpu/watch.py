"""Runs a part in processes of its own, until each of its cases has a row.

A process that crashes, hangs or does not answer in time is ended, what it had begun is written down
as failed, and a new one goes on with the next case.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Run:
    """One call of the script: where its results go, when it began, and whether it has to end."""

    folder: Path
    is_dry: bool
    start: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    def say(self, text: str) -> None:
        # in one piece: parts that run side by side speak at once
        sys.stdout.write(f"[{time.monotonic() - self.start:6.1f} s] {text}\n")
        sys.stdout.flush()


def log_of(folder: Path, part: Part) -> Path:
    """What its processes print."""
    return folder / f"{part.name}.log"


class Watched:
    """A part's process, and what its journal says."""

    def __init__(self, part: Part, run: Run):
        self.part, self.run = part, run
        self.journal, self.log = Journal(run.folder, part.name), log_of(run.folder, part)
        words = ["--out", str(run.folder), "--run-part", part.name, part.module, *part.only]
        words = ["--dry-run", *words] if run.is_dry else words
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "run.py"), *words],
                env=environment(part, run.is_dry),
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
                return self.end("the part's time was up"), seen
            if self.run.stop.is_set():
                return self.end("the script was stopped"), seen
            if now - since > self.part.longest:
                return self.end(f"hung: no answer for {self.part.longest:.0f} s"), seen
        lines = self.journal.lines()
        self._tell(lines[seen:])
        code = self.process.returncode
        said = self.log.read_text(errors="replace").strip().split("\n")[-3:]
        last = " ".join(" ".join(said).split())[-300:]
        return f"the process ended with code {code}: {last}" if code else "", len(lines)

    def end(self, reason: str) -> str:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return reason

    def _tell(self, lines: list[dict]) -> None:
        for line in lines:
            if "error" in line:
                self.run.say(f"{self.part.name} · {line['case']}: FAILED, {line['error']}")
            elif "case" in line:
                share = "" if line["share"] is None else f", {line['share']:.1%} of {line['of']}"
                wrong = "" if line["verdict"] in (True, None) else "  BELOW"
                what = f"{line['value']:.4g} {line['unit']}{share}{wrong} {line['note']}"
                self.run.say(f"{self.part.name} · {line['case']}: {what.strip()}")


def environment(part: Part, is_dry: bool) -> dict[str, str]:
    paths = [ROOT, HERE, HERE.parent, ROOT / "tests" / "kernels"]
    known = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *filter(None, [known])])}
    env["HF_HUB_OFFLINE"] = "1"
    if part.only != ("",):  # several share the device
        env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return {**env, "JAX_PLATFORMS": "cpu"} if is_dry else env


def run_part(part: Part, run: Run, deadline: float) -> None:
    """Runs all cases of a part, in as many processes as it takes."""
    run.say(f"{part.name}: {part.about}")
    journal, seen = Journal(run.folder, part.name), 0
    while True:
        begun = len(journal.begun())
        watched = Watched(part, run)
        try:
            reason, seen = watched.watch(deadline, seen)
        finally:
            if watched.process.poll() is None:
                watched.end("")
        if not reason:
            return
        lost, has_begun = journal.open_case(), len(journal.begun()) > begun
        if lost is not None or not has_begun:
            journal.fail(lost or "beginning", reason)
            run.say(f"{part.name} · {lost or 'beginning'}: FAILED, {reason}")
            seen = len(journal.lines())
        # what has begun nothing will not do so the next time
        if not has_begun or time.monotonic() > deadline or run.stop.is_set():
            return
