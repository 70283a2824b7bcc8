"""Microseconds that scheduling a decode step takes under each policy that has a name.

    python benchmarks/policies.py [NAME ...]

At 64 and 256 running, with nobody waiting and with 100 more who wait for a seat.  What first come,
first served takes is the scheduler's own part; a policy should not add more than 100 µs to it.
"""

import statistics
import sys
import time

from jpaged.policies import NAMES, Policy, resolve
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import StepOutput
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.request import Request
from jpaged.scheduling.scheduler import Scheduler

CASES = ((64, 0), (256, 0), (64, 100), (256, 100))  # who run, and who wait
STEPS, PROMPT, PAGE_SIZE, MAX_LEN = 200, 40, 16, 1024


def a_scheduler(policy: Policy, running: int, waiting: int) -> Scheduler:
    pages = running * (MAX_LEN // PAGE_SIZE)
    scheduler = Scheduler(PagePool(pages, PAGE_SIZE), policy, max_num_seqs=running)
    for i in range(running + waiting):
        prompt = tuple(range(1000 * i, 1000 * i + PROMPT))
        params = SamplingParams(temperature=0, max_tokens=MAX_LEN, ignore_eos=True)
        scheduler.add(Request(str(i), prompt, params, max_tokens=2 * STEPS))
    return scheduler


def measure(name: str, running: int, waiting: int) -> float:
    """The median over decode steps, in microseconds."""
    scheduler, times, now = a_scheduler(resolve(name), running, waiting), [], 0.0
    while len(times) < STEPS:
        start = time.perf_counter()
        batch = scheduler.schedule(now)
        took = time.perf_counter() - start
        assert batch is not None
        scheduler.update(batch, StepOutput.filler(batch), now)
        now += 0.02
        if batch.is_decode:
            times.append(1e6 * took)
    return statistics.median(times)


def main() -> None:
    print("| policy |", " | ".join(f"{running} + {waiting}" for running, waiting in CASES), "|")
    print("|---|", "--:|" * len(CASES), sep="")
    for name in sys.argv[1:] or NAMES:
        cells = (f"{measure(name, running, waiting):.0f}" for running, waiting in CASES)
        print(f"| `{name}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
