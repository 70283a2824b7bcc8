"""`jpaged bench serve`, held against a server whose device takes a time that is known."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jpaged.bench.calls import Answer, Call
from jpaged.bench.datasets import Lengths, custom_calls, random_calls, timed, workload_calls
from jpaged.bench.figures import Figures, as_block
from jpaged.cli import main
from jpaged.cli.client import Client
from jpaged.simulator import Constant, simulate
from jpaged.simulator.specs import workload_of

STEP = 0.01
FEW = ["--random-input-len", "32", "--random-output-len", "20", "--num-prompts", "20"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with four seats, whose steps take ten milliseconds whatever is in them."""
    flags = ["--port", "0", "--pretend", f"constant:{STEP}", "--max-num-seqs", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jpaged", "serve", "demo", *flags],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state"))},
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.communicate(timeout=20)


def bench(capsys, *flags: str) -> tuple[int, dict[str, float], str]:
    """The exit code, the block's figures by name, and stderr."""
    code = main(["bench", "serve", *flags])
    out, err = capsys.readouterr()
    rows = re.findall(r"^(.+?):\s+([\d.]+)\s*$", out, re.MULTILINE)
    return code, {name: float(value) for name, value in rows}, err


def answer(begin: float, *chunks: float, num_output: int | None = None, error: str = "") -> Answer:
    count = len(chunks) if num_output is None else num_output
    return Answer(begin, begin, max(chunks, default=begin), list(chunks), 10, count, error=error)


def takes(measured: float, least: float, at_most: float = 2.0) -> bool:
    """Nothing is faster than the device; how much slower depends on who else computes here."""
    return 0.98 * least <= measured <= at_most * least


def test_counts_and_times_are_what_the_device_must_take(capsys, url):
    code, found, _ = bench(capsys, "--base-url", url, *FEW, "--max-concurrency", "4")

    # five rounds of four: a step for the prompts, or two where one runs already, and one a token
    assert code == 0
    assert found["Successful requests"] == 20 and found["Failed requests"] == 0
    assert found["Total input tokens"] == 20 * 32
    assert found["Total generated tokens"] == 20 * 20
    assert found["Peak concurrent requests"] == 4
    assert takes(found["Mean TPOT (ms)"], 1000 * STEP)
    assert takes(found["Mean ITL (ms)"], 1000 * STEP)
    assert takes(found["Median TTFT (ms)"], 1000 * STEP, at_most=10)
    assert takes(found["Benchmark duration (s)"], 5 * 20 * STEP)
    assert found["Output token throughput (tok/s)"] == pytest.approx(
        400 / found["Benchmark duration (s)"], rel=0.01
    )


def test_who_waits_for_a_seat_waits_longer_for_a_first_token(capsys, url):
    _, found, _ = bench(capsys, "--base-url", url, *FEW, "--goodput", "ttft:150")

    # all at once: of 20, the first four begin at once, the next ones 200 ms later, and so on
    assert found["Peak concurrent requests"] == 20
    assert found["P99 TTFT (ms)"] > 4 * 20 * STEP * 1000
    good = found["Request goodput (req/s)"] * found["Benchmark duration (s)"]
    assert good == pytest.approx(4, abs=0.1)


def test_a_workload_takes_as_long_as_its_simulation_says(capsys, url):
    spec = "poisson:rate=30,num_requests=40,prompt_len=40,output_len=15"
    simulated = simulate(
        "fcfs", workload_of(spec)(0), Constant(STEP), max_num_seqs=4, max_model_len=1024
    ).requests

    code, found, _ = bench(capsys, "--base-url", url, "--dataset-name", spec)

    assert code == 0
    assert found["Total generated tokens"] == 40 * 15
    assert takes(found["Mean TPOT (ms)"], 1000 * simulated.tpot.mean())
    assert takes(found["Mean E2EL (ms)"], 1000 * simulated.latency.mean())


def test_turns_of_a_session_follow_each_other_on_what_was_said(capsys, url, tmp_path):
    spec = "sessions:rate=20,num_sessions=3,num_turns=3,prompt_len=10,output_len=5,think=0.05"

    code, found, err = bench(
        capsys,
        *("--base-url", url, "--dataset-name", spec, "--save-detailed"),
        *("--result-dir", str(tmp_path), "--result-filename", "result.json"),
    )

    assert code == 0, err
    assert found["Successful requests"] == 9
    saved = json.loads((tmp_path / "result.json").read_text())
    # each turn's prompt has the turns before in it: 10, 25, 40
    assert sorted(saved["input_lens"]) == [10] * 3 + [25] * 3 + [40] * 3
    assert saved["output_lens"] == [5] * 9
    assert saved["completed"] == 9 and saved["model_id"] == "demo"
    assert len(saved["itls"][0]) == 4
    assert saved["p99_ttft_ms"] == pytest.approx(found["P99 TTFT (ms)"], abs=0.01)


def test_conversations_are_answered_as_long_as_they_were(capsys, url, tmp_path):
    texts = [("One day a fox met a bear.", "They were friends."), ("Hi", "Yes")]
    turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in texts]
    file = tmp_path / "sharegpt.json"
    file.write_text(json.dumps([{"conversations": each} for each in [*turns, turns[0][:1]]]))
    length = len(Client(url).post("/tokenize", {"prompt": texts[0][1]})["tokens"])
    flags = ["--dataset-name", "sharegpt", "--dataset-path", str(file), "--num-prompts", "3"]

    code, found, err = bench(capsys, "--base-url", url, *flags, "--ignore-eos")

    # "Hi" is too short, and a question alone is no conversation: the first one is sent thrice
    assert code == 0, err
    assert found["Total generated tokens"] == 3 * length


def test_a_trace_is_sent_at_its_own_times(capsys, url, tmp_path):
    lines = [{"timestamp": 0.4 * n, "input_length": 20, "output_length": 5} for n in range(3)]
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(json.dumps({**line, "hash_ids": [7, 8]}) + "\n" for line in lines))
    flags = ["--dataset-name", "timed_trace", "--dataset-path", str(file)]

    code, found, _ = bench(capsys, "--base-url", url, *flags)
    refused, _, err = bench(capsys, "--base-url", url, *flags, "--request-rate", "5")

    assert code == 0
    assert found["Total input tokens"] == 60 and found["Total generated tokens"] == 15
    assert takes(found["Benchmark duration (s)"], 0.8 + 5 * STEP)
    assert refused == 1 and "has its own times" in err


def test_chats_are_asked_in_texts_and_at_a_rate(capsys, url):
    flags = ["--backend", "openai-chat", "--request-rate", "40", "--num-prompts", "10"]
    lengths = ["--random-input-len", "8", "--random-output-len", "4"]

    code, found, _ = bench(capsys, "--base-url", url, *flags, *lengths)

    assert code == 0
    assert found["Request rate configured (RPS)"] == 40
    assert found["Total generated tokens"] == 40
    assert found["Total input tokens"] > 80  # the template's words come on top


def test_refused_requests_are_failures_and_the_exit_code_says_so(capsys, url):
    flags = ["--random-input-len", "4000", "--num-prompts", "3"]

    code, found, err = bench(capsys, "--base-url", url, *flags)

    assert code == 1
    assert found["Failed requests"] == 3
    assert "Mean TTFT (ms)" not in found
    assert "failed: 400" in err and "max_model_len" in err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "9"], "Connect"),
        (["--goodput", "ttft"], "KEY:MILLISECONDS"),
        (["--goodput", "itl:5"], "there are ttft, tpot, e2el"),
        (["--metric-percentiles", "101"], "from 0 to 100"),
        (["--percentile-metrics", "ttft,speed"], "no metric speed"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(capsys, flags, said):
    code, _, err = bench(capsys, *flags)

    assert code == 1
    assert said in err and err.count("\n") == 1


def test_figures_are_those_of_the_definitions():
    found = Figures(
        4.0,
        [
            answer(0.0, 1.0, 1.5, 2.5),  # a token each half second, then a slow one
            answer(1.0, 1.2, 2.0, num_output=5),  # five tokens in two chunks
            answer(1.0, error="lost"),
        ],
        {"ttft": 0.5},
    )

    assert found.totals()["completed"] == 2 and found.totals()["failed"] == 1
    assert found.totals()["output_throughput"] == 8 / 4
    assert found.samples["ttft"] == pytest.approx([1.0, 0.2])
    assert found.samples["tpot"] == pytest.approx([1.5 / 2, 0.8 / 4])
    assert found.samples["itl"] == pytest.approx([0.5, 1.0, 0.8])
    assert found.samples["e2el"] == pytest.approx([2.5, 1.0])
    assert found.goodput == 1 / 4
    assert found.peak_concurrency == 2
    assert found.times("ttft", [50])["p50_ttft_ms"] == pytest.approx(600)


def test_the_block_has_the_words_of_vllm():
    lines = as_block(Figures(1.0, [answer(0.0, 0.5, 0.6)], {}), ["ttft", "itl"], [99.0, 99.9])

    assert lines[0] == "============ Serving Benchmark Result ============"
    assert lines[1] == "Successful requests:                     1         "
    assert "---------------Time to First Token----------------" in lines
    assert "P99 TTFT (ms):                           500.00    " in lines
    assert "P99.9 ITL (ms):                          100.00    " in lines
    assert lines[-1] == "=" * 50


def test_random_prompts_share_their_prefix_and_keep_their_range():
    words = range(100, 200)
    calls = random_calls(words, 200, Lengths(40, 10, num_prefix=8, range_ratio=0.5), seed=1)

    assert len({call.prompt[:8] for call in calls}) == 1
    assert {token for call in calls for token in call.prompt} <= set(words)
    lengths = [len(call.prompt) - 8 for call in calls]
    assert min(lengths) >= 20 and max(lengths) <= 60 and len(set(lengths)) > 20
    assert {call.num_output for call in calls} == set(range(5, 16))
    assert calls == random_calls(words, 200, Lengths(40, 10, 8, 0.5), seed=1)


@pytest.mark.parametrize(("burstiness", "cv"), [(1.0, 1.0), (0.25, 2.0), (16.0, 0.25)])
def test_arrivals_have_their_rate_and_burstiness(burstiness, cv):
    calls = timed([Call("x", 1)] * 4000, rate=10, burstiness=burstiness, seed=0)
    arrivals = [call.arrival for call in calls]
    gaps = [late - early for early, late in zip(arrivals, arrivals[1:], strict=False)]

    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.1, rel=0.1)
    assert deviation / mean == pytest.approx(cv, rel=0.1)


def test_equal_prefixes_of_a_workload_stay_equal():
    spec = "shared_prefix_tree:rate=5,num_requests=30"
    words = range(1000, 1100)

    calls, requests = workload_calls(words, spec, None, 0), workload_of(spec)(0)

    assert [call.arrival for call in calls] == [request.arrival for request in requests]
    first = [tuple(request.prompt)[:16] for request in requests]
    ours = [call.prompt[:16] for call in calls]
    assert len(set(first)) == len(set(ours)) < len(calls)


def test_prompts_of_a_file_are_sent_again_when_they_are_too_few(tmp_path: Path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "One", "output_tokens": 3}\n\n{"prompt": "Two"}\n')

    calls = custom_calls(str(file), 5, None, 0)

    assert len(calls) == 5
    assert {(call.prompt, call.num_output) for call in calls} == {("One", 3), ("Two", 256)}


def test_a_line_that_is_no_prompt_is_named(tmp_path: Path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "One"}\n{"text": "Two"}\n')

    with pytest.raises(ValueError, match="line 2"):
        custom_calls(str(file), 2, None, 0)


@pytest.mark.parametrize(
    ("event", "num_chunks", "said"),
    [
        (b'data: {"choices": [{"text": "Hi"}]}\n\n', 1, "the server closed the connection"),
        (b"data: {]}\n\n", 0, "not understood: JSON is malformed"),
        (b'data: {"error": {"message": "no room"}}\n\n', 0, "the server closed the connection"),
    ],
)
def test_a_stream_that_breaks_off_is_a_failure(event, num_chunks, said):
    """A server that says half an answer and hangs up."""
    from jpaged.bench.connection import Pool
    from jpaged.bench.server import Server

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        writer.close()

    async def ask() -> Answer:
        async with await asyncio.start_server(half, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            async with Pool(f"http://127.0.0.1:{port}", {}) as pool:
                return await Server(pool, "/v1/completions", "demo").generate("Hello", 5, 0.0)

    found = asyncio.run(ask())

    assert len(found.chunks) == num_chunks
    assert said in found.error
