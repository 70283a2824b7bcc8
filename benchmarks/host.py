"""Microseconds of Python in a decode step, by phase, at 8, 64 and 256 running sequences.

    python benchmarks/host.py

The scheduler, the packer and the loop's bookkeeping are the engine's own; the device is left out,
so that nothing but Python is measured.  Detokenising is apart: it is the engine's, a request at a
time.
"""

import json
import statistics
import time
from pathlib import Path

import numpy as np
from machine import describe

from jpaged.engine.tokenizer import TextStream, Tokenizer
from jpaged.policies import Fcfs
from jpaged.runner.executor import DeviceExecutor, Handle
from jpaged.runner.step_input import StepPacker
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.request import Request
from jpaged.scheduling.scheduler import Scheduler
from jpaged.weights.folder import find_folder

RUNNING = (8, 64, 256)
LIMIT = {64: 150, 256: 450}  # microseconds a step may take
STEPS, PROMPT, PAGE_SIZE, MAX_LEN = 300, 40, 16, 1024
PHASES = ("schedule", "pack", "collect", "update")


def a_scheduler(running: int) -> Scheduler:
    pages = running * (MAX_LEN // PAGE_SIZE)
    scheduler = Scheduler(PagePool(pages, PAGE_SIZE), Fcfs(), max_num_seqs=running)
    for i in range(running):
        prompt = tuple(range(1000 * i, 1000 * i + PROMPT))
        params = SamplingParams(temperature=0, max_tokens=MAX_LEN, ignore_eos=True)
        scheduler.add(Request(str(i), prompt, params, max_tokens=STEPS + 100))
    return scheduler


def measure(running: int) -> dict[str, float]:
    """Median microseconds of each phase, and of all together."""
    scheduler = a_scheduler(running)
    packer = StepPacker(scheduler.pool.num_pages, PAGE_SIZE, 32000, MAX_LEN, running)
    ladder = BucketLadder.build(2048, running, MAX_LEN // PAGE_SIZE)
    tokens = np.arange(running, dtype=np.int32)
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    while scheduler.has_unfinished:
        marks = [time.perf_counter()]
        batch = scheduler.schedule(marks[0])
        assert batch is not None
        marks.append(time.perf_counter())
        packer.pack(batch, ladder.fit(batch))
        scheduler.advance(batch)
        marks.append(time.perf_counter())
        # the device's answer, as `collect` finds it once the step has run
        handle = Handle(batch, [], tokens, None, tokens)  # pyright: ignore[reportArgumentType]
        output = DeviceExecutor.collect(None, handle)  # pyright: ignore[reportArgumentType]
        marks.append(time.perf_counter())
        scheduler.update(batch, output, marks[-1])
        marks.append(time.perf_counter())
        if batch.is_decode:
            for phase, start, end in zip(PHASES, marks[:-1], marks[1:], strict=True):
                times[phase].append(1e6 * (end - start))
    medians = {phase: statistics.median(values[:STEPS]) for phase, values in times.items()}
    return {**medians, "together": sum(medians.values())}


def measure_text(tokenizer: Tokenizer, running: int) -> float:
    """Median microseconds to decode one new token of each sequence."""
    streams = [TextStream(tokenizer, [5, 6, 7], True) for _ in range(running)]
    rng, times = np.random.default_rng(0), []
    for _ in range(100):
        tokens = rng.integers(300, 4000, running).tolist()
        start = time.perf_counter()
        for stream, token in zip(streams, tokens, strict=True):
            stream.push(token)
        times.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    tokenizer = Tokenizer.load(find_folder("demo"))
    results = {}
    print("running | " + " | ".join(PHASES) + " | together | limit | detokenise")
    for running in RUNNING:
        found = measure(running)
        found["detokenise"] = measure_text(tokenizer, running)
        results[running] = {name: round(value, 1) for name, value in found.items()}
        numbers = [f"{found[name]:.0f}" for name in (*PHASES, "together")]
        print(running, *numbers, LIMIT.get(running, "-"), f"{found['detokenise']:.0f}", sep=" | ")
    path = Path(__file__).parent / "results" / "host.json"
    path.write_text(json.dumps({"machine": describe(), "microseconds": results}, indent=1) + "\n")
    print(f"microseconds a step; written to {path}")


if __name__ == "__main__":
    main()
