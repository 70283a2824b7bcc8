"""jpaged's server beside vLLM's under load: `vllm bench serve` at rising request rates.

    python benchmarks/request_rates.py MODEL --vllm-python PYTHON     # adds a round; three minutes

Both serve MODEL, which needs a tokenizer, with the same limits; one is stopped while the other is
measured.  Every round asks new prompts, the same of both.  `results/request-rates.json` keeps all
rounds, and the table is of their medians.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from against_vllm import free_port, wait_until_healthy
from machine import describe, foreign_load

HERE = Path(__file__).parent
RATES = "1,2,4,8,16,inf"
NUM_INPUT, NUM_OUTPUT = 128, 64
SECONDS = 10  # of each rate, but for the slowest
LEAST, MOST = 16, 160  # requests
LIMITS = {"max-model-len": 1024, "max-num-seqs": 128, "max-num-batched-tokens": 2048}
CACHE = 2  # GiB
KEPT = ("request_throughput", "output_throughput", "duration", "completed")
TIMES = tuple(
    f"{kind}_{what}_ms" for what in ("ttft", "tpot", "e2el") for kind in ("median", "p99")
)


class Stopped:
    """A server in a process group of its own, which runs only while it is asked."""

    def __init__(self, command: list[str], env: dict[str, str]):
        self.port = free_port()
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def going(self) -> Iterator[str]:
        """Its address."""
        os.killpg(self.process.pid, signal.SIGCONT)
        yield f"http://127.0.0.1:{self.port}"
        os.killpg(self.process.pid, signal.SIGSTOP)

    def wait(self) -> None:
        wait_until_healthy(self.process, ("127.0.0.1", self.port))
        os.killpg(self.process.pid, signal.SIGSTOP)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.process.terminate()
            self.process.wait(60)


def jpaged(model: str) -> Stopped:
    options = {**LIMITS, "kv-cache-memory-bytes": CACHE << 30, "warmup": "full"}
    # it is stopped for longer than it would believe
    flags = {**options, "engine-patience": 3600, "dtype": "bfloat16", "served-model-name": "model"}
    command = [sys.executable, "-m", "jpaged", "serve", model]
    return Stopped([*command, *as_flags(flags)], {})


def vllm(model: str, python: str, cores: str) -> Stopped:
    options = {**LIMITS, "model": model, "dtype": "bfloat16", "served-model-name": "model"}
    command = [python, "-m", "vllm.entrypoints.openai.api_server", *as_flags(options)]
    env = {"VLLM_CPU_KVCACHE_SPACE": str(CACHE), "VLLM_CPU_OMP_THREADS_BIND": cores}
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return Stopped([*command, "--disable-uvicorn-access-log"], {**env, **quiet})


def as_flags(options: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


class Load:
    """vLLM's benchmark in a process of its own."""

    def __init__(self, python: str, model: str):
        self.model = model
        self.process = subprocess.Popen(
            [python, str(HERE / "rates_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def measure(self, url: str, rate: str, count: int, seed: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        flags = {
            **{"backend": "vllm", "base-url": url, "model": self.model, "seed": seed},
            **{"served-model-name": "model", "temperature": 0, "dataset-name": "random"},
            **{"random-input-len": NUM_INPUT, "random-output-len": NUM_OUTPUT},
            **{"num-prompts": count, "request-rate": rate, "percentile-metrics": "ttft,tpot,e2el"},
        }
        self.process.stdin.write(json.dumps([*as_flags(flags), "--disable-tqdm"]) + "\n")
        self.process.stdin.flush()
        found = self._read()
        if found["completed"] != count or found["total_output_tokens"] != count * NUM_OUTPUT:
            raise RuntimeError(f"{url} answered {found['completed']} of {count}")
        return {"rate": rate, **{name: found[name] for name in (*KEPT, *TIMES)}}

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def requests_at(rate: str) -> int:
    return MOST if rate == "inf" else int(min(MOST, max(LEAST, SECONDS * float(rate))))


def measure(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """A round: each rate of each server, in turns."""
    rates = args.rates.split(",")
    with contextlib.ExitStack() as until_done:
        servers: dict[str, Stopped] = {}
        for name, start in (
            ("vllm", lambda: vllm(args.model, args.vllm_python, args.vllm_cores)),
            ("jpaged", lambda: jpaged(args.model)),
        ):
            servers[name] = start()
            until_done.callback(servers[name].close)
            servers[name].wait()
        load = Load(args.vllm_python, args.model)
        until_done.callback(load.close)
        found = []
        for at, rate in enumerate(["warm-up", *rates]):
            for name, server in servers.items():
                asked = ("inf", LEAST) if rate == "warm-up" else (rate, requests_at(rate))
                with server.going() as url:
                    figures = load.measure(url, *asked, seed=1000 * seed + at)
                if rate != "warm-up":
                    found.append({"server": name, **figures})
    return found


def table(rounds: list[dict[str, Any]]) -> str:
    runs = [run for each in rounds for run in each["runs"]]
    columns = (*TIMES, "output_throughput")
    heads = [name.replace("_", " ") for name in columns]
    lines = ["| rate | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for rate in dict.fromkeys(run["rate"] for run in runs):
        cells = []
        for name in columns:
            ours, theirs = (
                statistics.median(
                    run[name] for run in runs if (run["server"], run["rate"]) == (server, rate)
                )
                for server in ("jpaged", "vllm")
            )
            cells.append(
                f"{ours:.0f} : {theirs:.0f}" if ours > 100 else f"{ours:.1f} : {theirs:.1f}"
            )
        lines.append(f"| {rate} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="jpaged's server beside vLLM's under load.")
    parser.add_argument("model", help="a folder with a tokenizer")
    parser.add_argument("--vllm-python", required=True, help="an interpreter that has vLLM")
    parser.add_argument("--vllm-cores", default="0-1", help="that its threads are bound to")
    parser.add_argument("--rates", default=RATES, help="requests a second, with commas")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "request-rates.json")
    args = parser.parse_args()
    before = json.loads(args.out.read_text()) if args.out.exists() else {"rounds": []}
    rounds, load = before["rounds"], foreign_load()
    runs = measure(args, seed=len(rounds) + 1)
    rounds.append({"foreign_load": load, "vllm_cores": args.vllm_cores, "runs": runs})
    report = {
        "machine": describe(),
        "settings": {**LIMITS, "cache_gib": CACHE, "in": NUM_INPUT, "out": NUM_OUTPUT},
        "rounds": rounds,
    }
    rounded = json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 3))
    args.out.write_text(json.dumps(rounded, indent=1) + "\n")
    print(table(rounds))


if __name__ == "__main__":
    main()
