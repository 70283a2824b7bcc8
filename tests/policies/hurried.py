"""Requests of which half are in a hurry."""

from random import Random

from jpaged.scheduling.terms import Terms
from jpaged.simulator.workload import TimedRequest


def hurried(rate: float, num_requests: int = 300, seed: int = 0) -> list[TimedRequest]:
    """Short and long prompts, half of them in a hurry."""
    rng, now, workload = Random(seed), 0.0, []
    for i in range(num_requests):
        now += rng.expovariate(rate)
        prompt = tuple(rng.choices(range(32000), k=rng.choice((50, 400))))
        terms = Terms(ttft=rng.choice((0.3, 2.0)))
        workload.append(TimedRequest(str(i), now, prompt, 4, terms=terms))
    return workload
