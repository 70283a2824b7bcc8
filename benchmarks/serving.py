"""What a server costs: many streams at once, first bytes, and throughput beside the offline engine.

    python benchmarks/serving.py                    # streams and first bytes; no model is computed
    python benchmarks/serving.py --model MODEL      # and 32 streams of it against `LLM.generate`

The engine of the first two pretends: the scheduler, the pages, the tokenizer, both processes and
the sockets are real, only the device's time is slept through.  Loads come from this process, over
plain sockets, so that no client library limits; server and engine are processes of their own.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import psutil
import uvloop

from jpaged import LLM, SamplingParams
from jpaged.engine.async_engine import AsyncLLMEngine

RESULTS = Path(__file__).parent / "results"
STEP = 0.05  # seconds a token, of the streams
FIRST_STEP = 0.005  # of the first bytes
WARM_UP = 3000  # requests until buffers and heaps have their sizes
PROMPT = "Once upon a time there was a little fox who lived in a forest"


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[tuple[tuple[str, int], psutil.Process]]:
    """A server's address and its process."""
    command = [sys.executable, "-m", "jpaged", "serve", *flags, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = None
        while found is None:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start")
            found = re.search(r"http://([\d.]+):(\d+)", line)
        try:
            yield (found[1], int(found[2])), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def cpu_seconds(process: psutil.Process) -> dict[str, float]:
    """Of the server and of the engine."""
    engines = [each for each in process.children() if "engine_process" in str(each.cmdline())]
    used = {"server": process.cpu_times(), "engine": engines[0].cpu_times()}
    return {name: times.user + times.system for name, times in used.items()}


@dataclass(eq=False)
class Reader(asyncio.Protocol):
    """One connection that asks once, and when something of the answer came."""

    request: bytes
    done: asyncio.Future
    began: float = 0.0
    times: list[float] = field(default_factory=list)
    num_events: int = 0
    tail: bytes = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        count = data.count(b"data: ")
        if count:
            self.times.append(time.perf_counter())
            self.num_events += count
        if not self.num_events and not count and b" 200 OK" not in data and not self.times:
            self._fail(RuntimeError(data.decode(errors="replace")))
        self.tail = (self.tail + data)[-400:]
        if self.tail.endswith(b"0\r\n\r\n") and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionError("it ended early"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    @property
    def num_tokens(self) -> int:
        found = re.search(rb'"completion_tokens":(\d+)', self.tail)
        return int(found[1]) if found and b"[DONE]" in self.tail else 0


def request(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def asking(max_tokens: int, prompt: Any = PROMPT) -> bytes:
    body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    return request("/v1/completions", {**body, "stream_options": {"include_usage": True}})


async def read_all(address: tuple[str, int], requests: Sequence[bytes]) -> list[Reader]:
    loop = asyncio.get_running_loop()
    readers = [Reader(each, loop.create_future()) for each in requests]
    for reader in readers:
        await loop.create_connection(lambda reader=reader: reader, *address)
    await asyncio.gather(*(reader.done for reader in readers))
    for reader in readers:
        reader.transport.close()
    return readers


def streams(count: int, num_tokens: int) -> dict[str, Any]:
    """So many streams at once, each of a token every `STEP` seconds."""
    flags = ("demo", "--pretend", f"constant:{STEP}", "--max-num-seqs", str(count))
    sizes = ("--max-num-batched-tokens", str(16 * count), "--num-pages", str(32 * count))
    with serving(*flags, *sizes) as (address, process):
        uvloop.run(read_all(address, [asking(4)] * 8))
        before, began = cpu_seconds(process), time.perf_counter()
        own = time.process_time()
        readers = uvloop.run(read_all(address, [asking(num_tokens)] * count))
        seconds, after = time.perf_counter() - began, cpu_seconds(process)
        memory = process.memory_info().rss
    # once all of them have begun: before that there are prompts to compute and sockets to open
    all_begun = max(reader.times[0] for reader in readers)
    gaps = [
        later - sooner
        for reader in readers
        for sooner, later in zip(reader.times, reader.times[1:], strict=False)
        if sooner >= all_begun
    ]
    gaps.sort()
    said = sum(reader.num_tokens for reader in readers)
    return {
        "streams": count,
        "tokens_each": num_tokens,
        "tokens_wanted": count * num_tokens,
        "tokens_said": said,
        "events": sum(reader.num_events for reader in readers),
        "seconds": seconds,
        "tokens_per_second": said / seconds,
        "first_event_max": max(reader.times[0] - reader.began for reader in readers),
        "gap_p50": gaps[len(gaps) // 2],
        "gap_p99": gaps[int(len(gaps) * 0.99)],
        "gap_max": gaps[-1],
        "cpu_seconds": {name: after[name] - before[name] for name in after},
        "cpu_seconds_of_the_load": time.process_time() - own,
        "server_rss": memory,
    }


async def first_bytes(address: tuple[str, int], asked: bytes, count: int) -> list[float]:
    """Seconds from each request to its first event, one after the other on one connection."""
    loop = asyncio.get_running_loop()
    reader = Reader(asked, loop.create_future())
    await loop.create_connection(lambda: reader, *address)
    found = []
    for number in range(count):
        await reader.done
        found.append(reader.times[0] - reader.began)
        reader.times.clear()
        reader.done = loop.create_future()
        if number < count - 1:
            reader.ask()
    reader.done.cancel()
    reader.transport.close()
    return found


async def engines_own(count: int) -> list[float]:
    """The same from the engine itself, in this process."""
    options = {"pretend": f"constant:{FIRST_STEP}", "use_tqdm_on_load": False}
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    found = []
    async with AsyncLLMEngine("demo", **options) as engine:
        for _ in range(count):
            began = time.perf_counter()
            async for _ in engine.generate(PROMPT, params):
                found.append(time.perf_counter() - began)
                break
            await asyncio.sleep(0.01)
    return found


def first_byte(count: int) -> dict[str, Any]:
    """Seconds to the first event of a completion and of a chat, and to the engine's first token."""
    own = uvloop.run(engines_own(count))
    messages = [{"role": "user", "content": PROMPT}]
    chat = {"messages": messages, "max_tokens": 2, "ignore_eos": True, "stream": True}
    with serving("demo", "--pretend", f"constant:{FIRST_STEP}") as (address, _):
        completions = uvloop.run(first_bytes(address, asking(2), count))
        chats = uvloop.run(first_bytes(address, request("/v1/chat/completions", chat), count))
    medians = {
        "engine": statistics.median(own),
        "completion": statistics.median(completions),
        "chat": statistics.median(chats),
    }
    return {
        "requests": count,
        "medians": medians,
        "completion_over_engine": medians["completion"] - medians["engine"],
        "chat_over_engine": medians["chat"] - medians["engine"],
        "completion_p99": sorted(completions)[int(count * 0.99)],
    }


def overhead(model: str, rounds: int) -> dict[str, Any]:
    """Seconds for 32 x 64 tokens in x 64 out, offline and through the server, in turns.

    The model has no tokenizer: it borrows the bundled one, and takes and says ids.
    """
    prompts = [[(37 * row + 11 * at) % 2000 + 10 for at in range(64)] for row in range(32)]
    sizes = {"max_num_seqs": 32, "max_num_batched_tokens": 2048, "max_model_len": 256}
    options = {**sizes, "num_pages": 1024, "enable_prefix_caching": False, "warmup": "full"}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value]
    params = SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)
    requests = [asking_greedily(prompt) for prompt in prompts]
    found: dict[str, list[float]] = {"offline": [], "served": []}
    with (
        LLM(model, tokenizer="demo", use_tqdm_on_load=False, **options) as llm,
        serving(model, "--tokenizer", "demo", "--no-enable-prefix-caching", *flags) as (address, _),
    ):
        asked: list[Any] = [{"prompt_token_ids": prompt} for prompt in prompts]
        for number in range(rounds + 1):
            began = time.perf_counter()
            llm.generate(asked, params, use_tqdm=False)
            offline = time.perf_counter() - began
            began = time.perf_counter()
            readers = uvloop.run(read_all(address, requests))
            served = time.perf_counter() - began
            assert all(reader.num_tokens == 64 for reader in readers)
            if number:  # the first one warms up
                found["offline"].append(offline)
                found["served"].append(served)
    ratios = [s / o for s, o in zip(found["served"], found["offline"], strict=True)]
    return {
        "rounds": rounds,
        **{f"{name}_seconds": statistics.median(each) for name, each in found.items()},
        "overhead": statistics.median(ratios) - 1,
        "overheads": [ratio - 1 for ratio in ratios],
    }


def asking_greedily(prompt: list[int]) -> bytes:
    body = {"prompt": prompt, "max_tokens": 64, "ignore_eos": True, "temperature": 0}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return request("/v1/completions", {**body, **options})


def soak(count: int) -> dict[str, Any]:
    """What so many requests leave behind, after some thousands that warm up."""
    with serving("demo", "--pretend", "constant:0.001") as (address, process):

        def held() -> dict[str, float]:
            server = {"rss": process.memory_info().rss, "handles": process.num_fds()}
            [engine] = [each for each in process.children() if "engine" in str(each.cmdline())]
            return {**server, "engine_rss": engine.memory_info().rss}

        uvloop.run(repeatedly(address, WARM_UP))
        before, began = held(), time.perf_counter()
        uvloop.run(repeatedly(address, count))
        seconds, after = time.perf_counter() - began, held()
    return {
        "requests": count,
        "requests_per_second": count / seconds,
        "before": before,
        "after": after,
        "growth": {name: after[name] / before[name] - 1 for name in before},
    }


async def repeatedly(address: tuple[str, int], count: int, at_once: int = 16) -> None:
    """So many requests over a few connections."""
    await asyncio.gather(
        *(first_bytes(address, asking(2), count // at_once) for _ in range(at_once))
    )


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What, measured, wanted."""
    if "streams" in found:
        each = found["streams"]
        yield (
            f"{each['streams']} streams x {1 / STEP:.0f} tokens/s, gap p50 / p99 / max",
            " / ".join(f"{1000 * each[f'gap_{name}']:.0f}" for name in ("p50", "p99", "max"))
            + " ms",
            "p99 <= 300 ms",
        )
        yield (
            "tokens said, of those wanted; a second",
            f"{each['tokens_said']} / {each['tokens_wanted']}; {each['tokens_per_second']:.0f}",
            "all",
        )
        used = {**each["cpu_seconds"], "load": each["cpu_seconds_of_the_load"]}
        yield (
            f"CPU seconds of {each['seconds']:.1f}",
            ", ".join(f"{name} {value:.1f}" for name, value in used.items()),
            "",
        )
    if "first_byte" in found:
        each = found["first_byte"]
        for kind in ("completion", "chat"):
            yield (
                f"first byte of a {kind} over the engine's own",
                f"{1000 * each[f'{kind}_over_engine']:.2f} ms",
                "<= 5 ms",
            )
    if "soak" in found:
        each = found["soak"]
        yield (
            f"growth after {each['requests']} requests, {each['requests_per_second']:.0f}/s",
            ", ".join(f"{name} {value:+.1%}" for name, value in each["growth"].items()),
            "< 5 %",
        )
    if "overhead" in found:
        each = found["overhead"]
        yield (
            "32 x 64 in x 64 out, offline / served",
            f"{each['offline_seconds']:.2f} / {each['served_seconds']:.2f} s "
            f"({each['overhead']:+.1%})",
            "<= 10 %",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a server costs.")
    parser.add_argument("--model", help="a folder; without one there is no `overhead`")
    parser.add_argument("--parts", default="streams,first_byte,soak,overhead")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=200, help="of each stream")
    parser.add_argument("--requests", type=int, default=200, help="for first bytes")
    parser.add_argument("--soak", type=int, default=10_000, help="requests in a row")
    parser.add_argument("--rounds", type=int, default=5, help="of the overhead")
    parser.add_argument("--out", default=str(RESULTS / "serving.json"))
    args = parser.parse_args()
    gc.disable()  # of the load: a collection here would look like a pause of the server's
    parts = {
        "streams": lambda: streams(args.streams, args.tokens),
        "first_byte": lambda: first_byte(args.requests),
        "soak": lambda: soak(args.soak),
        "overhead": lambda: overhead(args.model, args.rounds),
    }
    wanted = [each for each in args.parts.split(",") if each != "overhead" or args.model]
    found: dict[str, Any] = {"machine": machine.describe(), "foreign": machine.foreign_load()}
    for name in wanted:
        found[name] = parts[name]()
    out = Path(args.out)
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(before | found, indent=1) + "\n")
    for what, value, goal in rows(found):
        print(f"{what:<58} {value:<34} {goal}")


if __name__ == "__main__":
    main()
