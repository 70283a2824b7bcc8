"""jpaged's server beside vLLM's, request by request: statuses, headers that matter, JSON, events.

    python benchmarks/against_vllm.py --vllm-python PYTHON      # asks both, one after the other
    python benchmarks/against_vllm.py                           # asks jpaged only

Both serve the bundled model in float32 on a CPU.  Where a request is greedy their words, tokens,
counts and log-probabilities must be equal, too.  A difference without a reason in
`vllm_differences.py` is a failure, and so is a reason that no difference needs any more.
vLLM's answers are kept in `results/against-vllm.json`, the table in `results/against-vllm.md`.
"""

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vllm_answers import Address, ask, compared
from vllm_differences import REASONS, Reason
from vllm_requests import cases

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DEMO = HERE.parent / "jpaged" / "assets" / "demo"
START_SECONDS = 120.0
MOST_CHARS = 200  # of an error that is kept


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, env: dict[str, str]) -> Iterator[Address]:
    """Starts a server, waits until it is healthy, ends it."""
    with subprocess.Popen(command, env={**os.environ, **env}, stdout=sys.stderr) as process:
        try:
            wait_until_healthy(process, ("127.0.0.1", port))
            yield "127.0.0.1", port
        finally:
            process.terminate()
            process.wait(60)


def wait_until_healthy(process: subprocess.Popen, address: Address) -> None:
    until = time.monotonic() + START_SECONDS
    while not is_healthy(address):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args} did not start; see above")
        time.sleep(0.2)


def is_healthy(address: Address) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def jpaged_server(*flags: str) -> contextlib.AbstractContextManager[Address]:
    port = free_port()
    command = [sys.executable, "-m", "jpaged", "serve", "demo", "--dtype", "float32"]
    return serving([*command, "--port", str(port), *flags], port, {})


def vllm_server(python: str) -> contextlib.AbstractContextManager[Address]:
    port = free_port()
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(DEMO)]
    names = ["--served-model-name", "demo", "--dtype", "float32", "--port", str(port)]
    env = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    return serving([*command, *names], port, {**env, "VLLM_LOGGING_LEVEL": "ERROR"})


def sorted_out(found: dict[str, list[str]]) -> tuple[dict[Reason, dict[str, list[str]]], list[str]]:
    """Of each reason the cases it explains; and what has none."""
    explained: dict[Reason, dict[str, list[str]]] = {reason: {} for reason in REASONS}
    unexplained = []
    for case, each in found.items():
        for difference in each:
            reason = next((one for one in REASONS if one.explains(case, difference)), None)
            if reason is None:
                unexplained.append(f"{case} | {difference}")
            else:
                explained[reason].setdefault(case, []).append(difference)
    return explained, unexplained


INTRODUCTION = """\
# jpaged beside vLLM 0.32, request by request

`python benchmarks/against_vllm.py --vllm-python PYTHON` sends {proper} requests, and {malformed}
malformed ones, to `jpaged serve` and to vLLM's own server (CPU), which serve the same model in
float32. It compares statuses, headers, keys, types and events, and of greedy answers every word,
token, count and log-probability. {alike} answers are alike in all of it, {statuses} of the proper
requests have another status. Whatever differs has its reason below, or the script fails.

| what differs: ours, vLLM's | requests | why |
|---|---|---|
"""


def table(found: dict[str, list[str]], explained: dict[Reason, dict[str, list[str]]]) -> str:
    proper = [each for case, each in found.items() if not case.startswith("malformed")]
    text = INTRODUCTION.format(
        proper=len(proper),
        malformed=len(found) - len(proper),
        alike=sum(not each for each in found.values()),
        statuses=sum(any(one.startswith("status") for one in each) for each in proper),
    )
    lines = []
    for reason, by_case in explained.items():
        what = list(dict.fromkeys(each for some in by_case.values() for each in some))
        lines.append(
            f"| {cell(what, 6)} | {len(by_case)}: {cell(list(by_case), 8)} | {reason.why} |"
        )
    return text + "\n".join(lines) + "\n"


def cell(texts: list[str], most: int) -> str:
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return "; ".join(text.replace("|", "\\|") for text in [*texts[:most], *more])


def keep(path: Path, answers: dict[str, Any]) -> None:
    """A line an answer; neither this machine's folders nor errors that repeat a long request."""
    for answer in answers.values():
        error = answer["body"].get("error") if isinstance(answer["body"], dict) else None
        if isinstance(error, dict):
            error["message"] = error["message"][:MOST_CHARS]
    lines = (f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items())
    path.write_text("{\n" + ",\n".join(lines).replace(str(DEMO), "FOLDER") + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks jpaged and vLLM the same.")
    parser.add_argument("--vllm-python", help="an interpreter that has vLLM; else its last answers")
    args = parser.parse_args()
    kept = RESULTS / "against-vllm.json"
    asked = list(cases())
    if args.vllm_python:
        with vllm_server(args.vllm_python) as address:
            theirs = {case.name: ask(address, case) for case in asked}
        keep(kept, theirs)
    theirs = json.loads(kept.read_text())
    asked = [case for case in asked if case.name in theirs]
    with jpaged_server() as address:
        ours = {case.name: ask(address, case) for case in asked}
    found = {case.name: compared(case, ours[case.name], theirs[case.name]) for case in asked}
    explained, unexplained = sorted_out(found)
    (RESULTS / "against-vllm.md").write_text(table(found, explained))
    unused = [reason.why for reason, by_case in explained.items() if not by_case]
    print(
        *unexplained,
        *(f"nothing differs for this reason any more: {why}" for why in unused),
        sep="\n",
    )
    print(f"{len(asked)} requests, {len(unexplained)} differences without a reason")
    return 1 if unexplained or unused else 0


if __name__ == "__main__":
    sys.exit(main())
