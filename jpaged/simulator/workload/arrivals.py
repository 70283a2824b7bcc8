"""Requests that arrive whether or not anybody keeps up: an open loop.

Gaps, prompts' lengths, outputs' lengths and tokens each have their own chance.  So another rate
moves the same requests closer together, and a longer workload begins as the shorter one does.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Protocol, Unpack

from jpaged.sampling_params import SamplingParams
from jpaged.simulator.lengths import SHAREGPT, Conversations
from jpaged.simulator.workload.laws import Counts, Law, as_law, check_counts, check_positive, drawn
from jpaged.simulator.workload.request import VOCAB, Asked, TimedRequest, source_of
from jpaged.simulator.workload.tokens import Passage

Gap = Callable[[Random], float]  # seconds to the next arrival


class Prefixes(Protocol):
    """What prompts begin with; see `PrefixTree`."""

    def draw(self, rng: Random) -> Passage: ...


def poisson(
    rate: float,
    num_requests: int,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    seed: int = 0,
    tree: Prefixes | None = None,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """`rate` requests a second that do not know of each other.

    prompt_len, output_len: a number, a list to draw from, or a law.  tree: prompts begin with
    prefixes of it.  Raises `ConfigError`.
    """
    made = requests(poisson_gap(rate), prompt_len, output_len, seed, tree, **asked)
    return first(made, num_requests=num_requests)


def gamma(
    rate: float,
    cv: float,
    num_requests: int,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    seed: int = 0,
    tree: Prefixes | None = None,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """`rate` requests a second, in bursts.

    cv: the gaps' coefficient of variation, their deviation over their mean; 1 is Poisson's, more
    is burstier.  Others speak of burstiness 1/cv², the gamma law's shape.  See `poisson`.
    """
    made = requests(gamma_gap(rate, cv), prompt_len, output_len, seed, tree, **asked)
    return first(made, num_requests=num_requests)


def weibull(
    rate: float,
    shape: float,
    num_requests: int,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    seed: int = 0,
    tree: Prefixes | None = None,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """`rate` requests a second, with rare long silences.

    shape: of the gaps' law; 1 is Poisson's, less is burstier.  See `poisson`.
    """
    made = requests(weibull_gap(rate, shape), prompt_len, output_len, seed, tree, **asked)
    return first(made, num_requests=num_requests)


def requests(
    gap: Gap,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    seed: int = 0,
    tree: Prefixes | None = None,
    **asked: Unpack[Asked],
) -> Iterator[TimedRequest]:
    """Requests without an end, made one by one: for workloads that no memory holds.

    gap: draws the seconds from one arrival to the next, of its mean or of any other law.
    """
    prompts, outputs = as_law("prompt_len", prompt_len), as_law("output_len", output_len)
    return _requests(gap, prompts, outputs, source_of(seed, asked), tree, asked)


def _requests(
    gap: Gap, prompts: Law, outputs: Law, source: str, tree: Prefixes | None, asked: Asked
) -> Iterator[TimedRequest]:
    gaps, prefixes = Random(f"{source}/arrivals"), Random(f"{source}/prefixes")
    askers, sayers = Random(f"{source}/prompts"), Random(f"{source}/outputs")
    texts = f"{source}/prompts"  # one object for all of them
    now, number = 0.0, 0
    while True:
        now += gap(gaps)
        before = None if tree is None else tree.draw(prefixes)
        prompt = Passage(texts, number, drawn("prompt_len", prompts, askers), before)
        num_output = drawn("output_len", outputs, sayers)
        yield TimedRequest(str(number), now, prompt, num_output, **asked)
        number += 1


def first(made: Iterator[TimedRequest], **num: int) -> list[TimedRequest]:
    """So many of them; the one number there is goes by the name that its user knows."""
    check_counts(**num)
    return list(islice(made, *num.values()))


# gaps are drawn as of one a second and then scaled: another rate draws the same ones


def poisson_gap(rate: float) -> Gap:
    check_positive(rate=rate)
    return lambda rng: rng.expovariate(1.0) / rate


def gamma_gap(rate: float, cv: float) -> Gap:
    check_positive(rate=rate, cv=cv)
    shape = cv**-2
    return lambda rng: rng.gammavariate(shape, 1 / shape) / rate


def weibull_gap(rate: float, shape: float) -> Gap:
    check_positive(rate=rate, shape=shape)
    scale = 1 / math.gamma(1 + 1 / shape)  # of mean 1
    return lambda rng: rng.weibullvariate(scale, shape) / rate


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
