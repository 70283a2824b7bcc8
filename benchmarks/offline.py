"""jpaged beside its peers, alternately, in one run: offline throughput on w1-w5.

    python benchmarks/offline.py MODEL --vllm-python ~/vllm/bin/python --hf-python ~/hf/bin/python

Every engine lives in a process of its own, which is stopped while another runs; a round runs each
engine once on one workload with the same requests.  Speed is reported as the ratio of the
medians: the machine's own speed drifts, and only what is measured side by side counts.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from agreement import check_greedy
from machine import describe, foreign_load
from tqdm import tqdm
from workloads import ABOUT, NAMES, workload

HERE = Path(__file__).parent
WARM_UP_SEED = 1000
SKIPPED = {("hf-cb", name) for name in ("w2", "w3", "w4", "w5")}  # measured on w1 only
ONCE = {("hf", "w2")}  # two minutes each


class Engine:
    """A worker process and what it answered."""

    def __init__(self, name: str, python: str, model: str):
        self.name = name
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), name, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._read()["ready"]
        self._pause()

    def _pause(self) -> None:
        """Stops the process: some engines' threads go on spinning when they have nothing to do."""
        self.process.send_signal(signal.SIGSTOP)

    def run(self, name: str, seed: int) -> tuple[float, list[list[int]]]:
        """Seconds, and the tokens of every sample.  Raises if a count is not the wanted one."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps({"workload": name, "seed": seed}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        self._pause()
        wanted = [request["out"] for request in workload(name, seed) for _ in range(request["n"])]
        counts = [len(tokens) for tokens in answer["tokens"]]
        if counts != wanted:
            raise RuntimeError(f"{self.name} gave {counts} tokens on {name}, wanted {wanted}")
        return answer["seconds"], answer["tokens"]

    def _read(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}; see above")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a bf16 checkpoint with a vocabulary of 32000")
    parser.add_argument("--vllm-python", help="an interpreter that has vLLM")
    parser.add_argument("--hf-python", help="an interpreter that has transformers and torch")
    parser.add_argument("--workloads", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="about two minutes: w1, w3, w4, twice")
    parser.add_argument("--no-continuous", action="store_true", help="leave HF's own batching out")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    for python in (args.vllm_python, args.hf_python):
        if python and shutil.which(python) is None:
            parser.error(f"there is no interpreter {python}")
    if args.quick:
        args.workloads, args.rounds, args.no_continuous = "w1,w3,w4", 2, True
    return args


def start_engines(args: argparse.Namespace) -> list[Engine]:
    wanted = [("jpaged", sys.executable)]
    if args.vllm_python:
        wanted.append(("vllm", args.vllm_python))
    if args.hf_python:
        wanted.append(("hf", args.hf_python))
        if not args.no_continuous:
            wanted.append(("hf-cb", args.hf_python))
    engines = []
    try:
        for name, python in wanted:
            engines.append(Engine(name, python, args.model))
    except BaseException:
        for engine in engines:  # they are stopped, and would wait for ever
            engine.close()
        raise
    return engines


def measure(engines: list[Engine], names: list[str], rounds: int) -> tuple[dict, dict]:
    """Seconds[workload][engine], and jpaged's tokens of the first round."""
    seconds = {name: {engine.name: [] for engine in engines} for name in names}
    tokens = {}
    for name in names:
        taking_part = [engine for engine in engines if (engine.name, name) not in SKIPPED]
        for engine in taking_part:
            if (engine.name, name) not in ONCE:
                engine.run(name, WARM_UP_SEED)
        for seed in tqdm(range(rounds), desc=name, unit="round"):
            for engine in taking_part:
                if seed and (engine.name, name) in ONCE:
                    continue
                took, said = engine.run(name, seed)
                seconds[name][engine.name].append(took)
                if engine.name == "jpaged" and seed == 0:
                    tokens[name] = said
    return seconds, tokens


def summarise(seconds: dict) -> list[dict]:
    rows = []
    for name, by_engine in seconds.items():
        ours = statistics.median(by_engine["jpaged"])
        generated = sum(request["out"] * request["n"] for request in workload(name, 0))
        for engine, times in by_engine.items():
            if times:
                median = statistics.median(times)
                rows.append(
                    {
                        "workload": name,
                        "engine": engine,
                        "median_s": round(median, 4),
                        "min_s": round(min(times), 4),
                        "max_s": round(max(times), 4),
                        "tokens_per_s": round(generated / median, 1),
                        "jpaged_is": round(median / ours, 3),
                        "runs": len(times),
                    }
                )
    return rows


def as_markdown(rows: list[dict]) -> str:
    lines = [
        "| workload | engine | median s | min - max | tokens/s | jpaged is |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "" if row["engine"] == "jpaged" else f"{row['jpaged_is']:.2f}x"
        lines.append(
            f"| {row['workload']} {ABOUT[row['workload']]} | {row['engine']} | "
            f"{row['median_s']:.3f} | {row['min_s']:.3f} - {row['max_s']:.3f} | "
            f"{row['tokens_per_s']:,.0f} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> None:
    args = parse_arguments()
    began = time.time()
    load_before = foreign_load()
    engines = start_engines(args)
    own = [os.getpid(), *(engine.process.pid for engine in engines)]
    seconds, tokens = measure(engines, args.workloads.split(","), args.rounds)
    report = {
        "machine": describe(),
        "model": Path(args.model).name,
        "rounds": args.rounds,
        "foreign_load": {"before": load_before, "after": foreign_load(own)},
        "ready_s": {engine.name: round(engine.ready, 1) for engine in engines},
        "rows": summarise(seconds),
    }
    for engine in engines:
        engine.close()
    if args.hf_python:
        report["agreement"] = check_greedy(args.hf_python, args.model, tokens)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"offline-{time.strftime('%Y%m%d-%H%M', time.localtime(began))}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    table = as_markdown(report["rows"])
    path.with_suffix(".md").write_text(table + "\n")
    print(table, *(f"\n{json.dumps(report[key])}" for key in ("agreement",) if key in report), path)


if __name__ == "__main__":
    main()
