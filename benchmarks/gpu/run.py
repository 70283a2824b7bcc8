"""Everything that wants a GPU, in one script: checks every kernel, then measures.

    python benchmarks/gpu/run.py --out DIR                            # nine minutes on one H200
    python benchmarks/gpu/run.py --out DIR --parts check,decode       # some of it
    python benchmarks/gpu/run.py --out DIR --dry-run                  # toys on a CPU, one minute

A part runs in a process of its own and has a budget of seconds; what it leaves, later parts may
use.  A process that crashes or hangs is replaced, and the next one goes on with the next case.
DIR/gpu.json and DIR/gpu.md are written anew after every part.
"""

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

from journal import Journal, run_cases
from report import machine, write_report
from watch import Part, Run, log_of, run_part

TOTAL = 530.0  # seconds


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
    # what a part's process is told: its name, module, and the beginnings of its cases' names
    parser.add_argument("--run-part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.parts.split(",")) - set(MODULES):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {names}")
    return args


def run_all(args: argparse.Namespace) -> list[dict]:
    run = Run(args.out, args.dry_run)
    modules = [module for module in MODULES if module in args.parts.split(",")]
    chosen = [part for part in PARTS if part.module in modules]
    facts = machine(args.dry_run)
    run.say(", ".join(f"{name} {value}" for name, value in facts.items()))
    for part in chosen:  # what an earlier run has left must not get into this one's report
        Journal(args.out, part.name).path.unlink(missing_ok=True)
        log_of(args.out, part).unlink(missing_ok=True)
    budgets, rows = {part.module: part.budget for part in chosen}, []
    for i, module in enumerate(modules):
        left = args.seconds - (time.monotonic() - run.start)
        spare = max(0.0, left - sum(budgets[each] for each in modules[i:]))
        deadline = time.monotonic() + min(left, budgets[module] + spare)
        parts = [part for part in chosen if part.module == module]
        try:
            run_side_by_side(parts, run, deadline)
        finally:
            rows = write_report(args.out, facts, [part.name for part in chosen])
    run.say("done")
    print((args.out / "gpu.md").read_text())
    return rows


def run_side_by_side(parts: list[Part], run: Run, deadline: float) -> None:
    with ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(run_part, part, run, deadline) for part in parts]
        try:
            for each in running:
                each.result()
        except BaseException:  # so that no process outlives the script
            run.stop.set()
            raise


def run_here(args: argparse.Namespace) -> None:
    """What a part's own process does."""
    name, module, *only = args.run_part
    part = import_module(module)
    cases = [case for case in part.cases(args.dry_run) if case.name.startswith(tuple(only))]
    run_cases(Journal(args.out, name), cases, part.is_alive)


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    if args.run_part:
        return run_here(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was found is written
    rows = run_all(args)
    sys.exit(any("error" in row or row["verdict"] is False for row in rows))


if __name__ == "__main__":
    main()
