"""How fast a simulation is, and what it costs with a thousand replicas and a million requests.

    python benchmarks/simulator.py

A *request-step* is one sequence in one step: a batch of 64 counts 64.  Seconds are of one core's
time, so that a busy machine changes little.  Simulations share nothing: two cores serve two seeds
at once (`concurrent.futures.ProcessPoolExecutor().map`), which halves the time of a sweep, not of
one run.
"""

import gc
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from machine import describe

from jpaged.simulator import Constant, Roofline, simulate
from jpaged.simulator.lengths import SHAREGPT
from jpaged.simulator.routers import LeastLoaded
from jpaged.simulator.workload import VOCAB, TimedRequest, generate

BATCHES, PROMPT, OUTPUT = (16, 64, 256), 100, 400
RATE = 10.0  # requests a second on each replica, which keeps it at a batch of about 23
REPLICAS = (1, 10, 100, 1000)
PER_REPLICA = 20  # requests of each
MANY_REPLICAS, MANY_REQUESTS = 1000, 1_000_000
COSTS = Roofline.of("llama-8b", "H100")


@dataclass
class Measured:
    """Of one run.  seconds: of this core; num_bytes: that the run has left, or had at its end."""

    seconds: float
    num_request_steps: int
    num_steps: int
    num_requests: int
    num_bytes: int = 0

    @property
    def rate(self) -> float:
        return self.num_request_steps / self.seconds


def resident() -> int:
    """Bytes of memory this process has."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def measure(workload: Iterable[TimedRequest], costs=COSTS, keeps: bool = False, **options):
    """A run whose records are kept, or counted and forgotten."""
    counts = [0, 0, 0, 0]

    def on_step(record, replica) -> None:
        counts[0] += record.num_sequences
        counts[1] += 1

    def on_request(record, replica) -> None:
        counts[2] += 1
        counts[3] = max(counts[3], resident()) if not counts[2] % 100 else counts[3]

    gc.collect()
    before, start = resident(), time.process_time()
    hear = {} if keeps else {"on_step": on_step, "on_request": on_request}
    result = simulate("fcfs", workload, costs, keep_token_times=False, **hear, **options)
    seconds = time.process_time() - start
    if keeps:
        steps = [record.num_sequences for record in result.records]
        size = resident() - before
        return Measured(seconds, sum(steps), len(steps), len(result.ended), size)
    num_request_steps, num_steps, num_requests, peak = counts
    size = max(peak, resident()) - before
    return Measured(seconds, num_request_steps, num_steps, num_requests, size)


def a_full_batch(size: int) -> list[TimedRequest]:
    rng = Random(0)
    prompts = [tuple(rng.choices(range(VOCAB), k=PROMPT)) for _ in range(max(512, 2 * size))]
    return [TimedRequest(str(i), 0.0, prompt, OUTPUT) for i, prompt in enumerate(prompts)]


def batches() -> dict[int, Measured]:
    """Always full batches, with others waiting: a hundred tokens in, four hundred out."""
    options = {"costs": Constant(0.01), "max_model_len": 1024}
    return {size: measure(a_full_batch(size), max_num_seqs=size, **options) for size in BATCHES}


def an_hour() -> Measured:
    return measure(generate(SHAREGPT, int(RATE * 3600), RATE, seed=0), keeps=True)


def growth() -> dict[int, Measured]:
    """The same load on each of ever more replicas, each request to the better of two."""
    found = {}
    for num_replicas in REPLICAS:
        workload = generate(SHAREGPT, PER_REPLICA * num_replicas, RATE * num_replicas, seed=0)
        router = LeastLoaded(choices=2)
        found[num_replicas] = measure(workload, num_replicas=num_replicas, router=router)
    return found


def main() -> None:
    speeds = batches()
    print("batch | request-steps a second")
    for size, found in speeds.items():
        print(size, f"{found.rate:,.0f}", sep=" | ")
    hour = an_hour()
    print(
        f"\nan hour of {RATE:.0f} requests a second: {hour.seconds:.0f} s, {hour.rate:,.0f} "
        f"request-steps a second, {hour.num_bytes / hour.num_requests / 1e3:.1f} kB a request kept"
    )
    print("\nreplicas | requests | seconds | request-steps a second | MB a replica")
    grown = growth()
    for num_replicas, found in grown.items():
        size = found.num_bytes / num_replicas / 1e6
        print(
            num_replicas, found.num_requests, f"{found.seconds:.1f}", f"{found.rate:,.0f}",
            f"{size:.2f}", sep=" | ",
        )  # fmt: skip
    most = grown[max(REPLICAS)]
    hours = most.seconds / most.num_requests * MANY_REQUESTS / 3600
    print(
        f"\n{MANY_REQUESTS:,} requests on {max(REPLICAS):,} replicas, at the last row's pace: "
        f"{hours:.1f} hours on one core"
    )
    results = {
        "machine": describe(),
        "batches": {size: round(found.rate) for size, found in speeds.items()},
        "hour": vars(hour),
        "growth": {number: vars(found) for number, found in grown.items()},
        "hours_for_a_million": round(hours, 2),
    }
    path = Path(__file__).parent / "results" / "simulator.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
