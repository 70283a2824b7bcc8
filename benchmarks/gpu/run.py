"""Everything that wants a GPU, in one script: checks every kernel, then measures.

    python benchmarks/gpu/run.py --out DIR                            # nine minutes on one H200
    python benchmarks/gpu/run.py --out DIR --parts check,decode       # some of it
    python benchmarks/gpu/run.py --out DIR --dry-run                  # toys on a CPU, one minute

A part runs in a process of its own and has a budget of seconds; what it leaves, later parts may
use.  A process that crashes or hangs is replaced, and the next one goes on with the next case.
DIR/gpu.json and DIR/gpu.md are written anew after every part.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from journal import Journal, run_cases
from report import machine, write_report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOTAL = 530.0  # seconds
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


REST = ("chosen", "kv_write", "page_copy", "merge")
PARTS = (
    Part("check-decode", "check", 90, 25, "Mosaic's decode against the references", ("mosaic d",)),
    Part("check-prefill", "check", 90, 25, "Mosaic's prompts, likewise", ("mosaic p",)),
    Part("check-ragged", "check", 90, 25, "Triton's ragged batches, likewise", ("triton",)),
    Part("check-rest", "check", 90, 25, "what is put together from them, writes and moves", REST),
    Part("decode", "decode", 105, 30, "decode against the bandwidth of a copy"),
    Part("prefill", "prefill", 45, 30, "prompts against a large bf16 matmul"),
    Part("engine", "engine", 135, 90, "the engine on random Llama-3.1-8B weights"),
    Part("writes", "writes", 25, 20, "writing and moving pages"),
    Part("peers", "peers", 35, 30, "jax.experimental.pallas.ops.gpu.paged_attention"),
    Part("torch_peers", "torch_peers", 40, 40, "torch: SDPA and flex attention"),
    Part("hf", "hf", 55, 60, "transformers: generate and continuous batching"),
)
MODULES = tuple(dict.fromkeys(part.module for part in PARTS))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for results")
    parser.add_argument("--dry-run", action="store_true", help="toy sizes, on the CPU")
    names = ",".join(MODULES)
    parser.add_argument("--parts", default=names, help=f"some of {names}")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="for everything")
    parser.add_argument("--run-part", help=argparse.SUPPRESS)  # what a part's process is told
    args = parser.parse_args()
    if unknown := set(args.parts.split(",")) - set(MODULES):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {names}")
    return args


def say(text: str, start: float) -> None:
    print(f"[{time.monotonic() - start:6.1f} s] {text}", flush=True)


class Watched:
    """A part's process, and what its journal says."""

    def __init__(self, part: Part, args: argparse.Namespace, start: float):
        self.part, self.start = part, start
        self.journal = Journal(args.out, part.name)
        self.log = args.out / f"{part.name}.log"
        words = ["--run-part", part.name, "--out", str(args.out)]
        words += ["--dry-run"] if args.dry_run else []
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "run.py"), *words],
                env=environment(part, args.dry_run),
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
    if sum(each.module == part.module for each in PARTS) > 1:
        env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several share the device
    return {**env, "JAX_PLATFORMS": "cpu"} if is_dry else env


def run_part(part: Part, args: argparse.Namespace, deadline: float, start: float) -> None:
    """Runs all cases of a part, in as many processes as it takes."""
    say(f"{part.name}: {part.about}", start)
    journal, seen = Journal(args.out, part.name), 0
    while True:
        begun = len(journal.begun())
        watched = Watched(part, args, start)
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


def run_all(args: argparse.Namespace) -> list[dict]:
    start = time.monotonic()
    modules = [module for module in MODULES if module in args.parts.split(",")]
    chosen = [part for part in PARTS if part.module in modules]
    facts = machine(args.dry_run)
    say(", ".join(f"{name} {value}" for name, value in facts.items()), start)
    for part in chosen:  # what an earlier run has left must not get into this one's report
        Journal(args.out, part.name).path.unlink(missing_ok=True)
        (args.out / f"{part.name}.log").unlink(missing_ok=True)
    budgets = {part.module: part.budget for part in chosen}
    rows = []
    for i, module in enumerate(modules):
        left = args.seconds - (time.monotonic() - start)
        spare = max(0.0, left - sum(budgets[each] for each in modules[i:]))
        deadline = time.monotonic() + min(left, budgets[module] + spare)
        parts = [part for part in chosen if part.module == module]
        try:
            with ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(lambda part: run_part(part, args, deadline, start), parts))  # noqa: B023
        finally:
            rows = write_report(args.out, facts, [part.name for part in chosen])
    say("done", start)
    print((args.out / "gpu.md").read_text())
    return rows


def run_here(name: str, args: argparse.Namespace) -> None:
    """What a part's own process does."""
    part = next(part for part in PARTS if part.name == name)
    module = import_module(part.module)
    cases = [case for case in module.cases(args.dry_run) if case.name.startswith(part.only)]
    run_cases(Journal(args.out, name), cases, module.is_alive)


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    if args.run_part:
        return run_here(args.run_part, args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was found is written
    rows = run_all(args)
    sys.exit(any("error" in row or row["verdict"] is False for row in rows))


if __name__ == "__main__":
    main()
