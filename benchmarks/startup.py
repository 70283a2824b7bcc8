"""Seconds from the start of a process to its first token: cold, warm, and beside vLLM.

    python benchmarks/startup.py MODEL --vllm-python ~/vllm/bin/python

Cold means an empty cache folder, so that the C++ kernels and the steps are compiled; warm, the same
folder again.  MODEL's prompt is token ids; the bundled model has its tokenizer and gets a text.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe, foreign_load

HERE = Path(__file__).parent
RUNS = 3  # warm
LIMITS = {("demo", "warm"): 3, ("model", "warm"): 6, ("model", "cold"): 25}  # seconds


def start(python: str, engine: str, model: str, cache: str | None = None) -> dict[str, float]:
    """Starts an engine once.  Returns the seconds of each part, and of all together."""
    places = {"XDG_CACHE_HOME": cache, "JAX_COMPILATION_CACHE_DIR": f"{cache}/xla"} if cache else {}
    began = time.monotonic()
    done = subprocess.run(
        [python, str(HERE / "first_token.py"), engine, model],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{engine} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    parts = {"interpreter": found["began"] - began, **found["parts"]}
    together = found["at"] - began
    return {
        **parts,
        "other": together - sum(parts.values()) + parts.get("other", 0),
        "all": together,
    }


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: statistics.median(run.get(name, 0.0) for run in runs) for name in names}


def measure(model: str) -> dict[str, dict[str, float]]:
    """{"cold", "warm": seconds by part}."""
    with tempfile.TemporaryDirectory() as cache:
        cold = start(sys.executable, "jpaged", model, cache)
        warm = [start(sys.executable, "jpaged", model, cache) for _ in range(RUNS)]
    return {"cold": cold, "warm": medians(warm)}


def totals(results: dict, vllm: dict[str, float] | None) -> str:
    lines = ["| model | start | s | limit |", "|---|---|---|---|"]
    for role, (name, starts) in zip(("demo", "model"), results.items(), strict=True):
        for kind, parts in starts.items():
            limit = f"< {LIMITS[role, kind]}" if (role, kind) in LIMITS else "-"
            lines.append(f"| {name} | jpaged, {kind} | {parts['all']:.2f} | {limit} |")
    if vllm:
        lines.append(f"| {list(results)[-1]} | vLLM, warm | {vllm['all']:.2f} | - |")
    return "\n".join(lines)


def by_part(results: dict) -> str:
    """Where the time goes, a column a start."""
    columns = {
        (name, kind): parts for name, starts in results.items() for kind, parts in starts.items()
    }
    names = list(dict.fromkeys(name for parts in columns.values() for name in parts))
    names = [*(name for name in names if name not in ("other", "all")), "other", "all"]
    heads = [f"{name}, {kind}" for name, kind in columns]
    lines = ["| seconds | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        cells = [f"{parts[name]:.2f}" if name in parts else "" for parts in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a checkpoint folder; it needs no tokenizer")
    parser.add_argument("--vllm-python", help="an interpreter that has vLLM")
    args = parser.parse_args()
    load = foreign_load()
    results = {Path(model).name: measure(model) for model in ("demo", args.model)}
    vllm = start(args.vllm_python, "vllm", args.model) if args.vllm_python else None
    report = {
        "machine": describe(),
        "foreign_load": {"before": load, "after": foreign_load()},
        "seconds": {**results, **({"vllm": vllm} if vllm else {})},
    }
    path = HERE / "results" / "startup.json"
    rounded = json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 3))
    path.write_text(json.dumps(rounded, indent=1) + "\n")
    print(totals(results, vllm), by_part(results), sep="\n\n")


if __name__ == "__main__":
    main()
