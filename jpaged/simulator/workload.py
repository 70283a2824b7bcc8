"""Requests and when they arrive.  A workload is data: whoever serves it decides what it costs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.request import Request
from jpaged.simulator.lengths import CONTEXT, Conversations

VOCAB = 32000  # token ids of prompts lie below
EOS = VOCAB  # what ends a sequence


@dataclass(frozen=True)
class TimedRequest:
    """A request, the second it arrives, and the tokens each of its sequences will say.

    `num_output` counts the end-of-sequence token.  It is fate, not a wish: the scheduler is told
    `max_tokens`, as a user would, and learns of the end when it comes.
    """

    name: str
    arrival: float
    prompt: tuple[int, ...]
    num_output: int
    params: SamplingParams = SamplingParams()

    @property
    def num_final(self) -> int:
        """Tokens of a sequence at its end."""
        return len(self.prompt) + self.num_output

    def as_request(self, context: int = CONTEXT) -> Request:
        """What the scheduler gets to see: it may go on up to `context` tokens."""
        if self.num_final > context:
            raise ValueError(
                f"request {self.name} grows to {self.num_final} tokens ({len(self.prompt)} prompt "
                f"+ {self.num_output} output), the context is {context}; raise it"
            )
        return Request(
            id=self.name,
            prompt=self.prompt,
            params=self.params,
            arrival=self.arrival,
            eos_token_ids=frozenset({EOS}),
            max_tokens=context - len(self.prompt),
        )


Workload = Sequence[TimedRequest]  # in order of arrival


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
