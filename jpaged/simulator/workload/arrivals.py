"""When requests arrive, and what they are."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from jpaged.sampling_params import SamplingParams
from jpaged.simulator.lengths import Conversations
from jpaged.simulator.workload.request import VOCAB, TimedRequest


def poisson_arrivals(rng: Random, rate: float) -> Iterator[float]:
    """Seconds at which requests arrive, `rate` a second, independently of each other."""
    now = 0.0
    while True:
        now += rng.expovariate(rate)
        yield now


def generate(
    law: Conversations,
    num_requests: int,
    rate: float,
    seed: int,
    params: SamplingParams | None = None,
    num_shared: int = 0,
) -> list[TimedRequest]:
    """Requests with lengths of `law`, `rate` a second; the same ones for the same seed.

    num_shared: tokens that all prompts begin with, a system prompt, say; the law's come after.
    Neither arrivals nor lengths change with what the other one is made of.
    """
    arrivals = poisson_arrivals(Random(f"{seed}/arrivals"), rate)
    lengths, tokens = Random(f"{seed}/lengths"), Random(f"{seed}/tokens")
    shared = _tokens(tokens, num_shared)
    workload = []
    for index in range(num_requests):
        num_prompt, num_output = law.prompts.draw(lengths), law.outputs.draw(lengths)
        prompt = shared + _tokens(tokens, num_prompt)
        request = TimedRequest(str(index), next(arrivals), prompt, num_output)
        workload.append(request if params is None else replace(request, params=params))
    return workload


def _tokens(rng: Random, count: int) -> tuple[int, ...]:
    return tuple(rng.choices(range(VOCAB), k=count))
