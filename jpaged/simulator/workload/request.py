"""A request of a workload: what arrives when, and what fate has in store for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.request import Request
from jpaged.scheduling.terms import NO_TERMS, Terms
from jpaged.simulator.lengths import CONTEXT

VOCAB = 32000  # token ids of prompts lie below
EOS = VOCAB  # what ends a sequence


@dataclass(frozen=True)
class TimedRequest:
    """A request, the second it arrives, and the tokens each of its sequences will say.

    `num_output` counts the end-of-sequence token.  It is fate, not a wish: the scheduler is told
    `max_tokens`, as a user would, and learns of the end when it comes.

    then: the next turn of its session.  That arrives `then.arrival` seconds after this one has
    ended, and its prompt is `then.prompt` behind all that was said before.
    """

    name: str
    arrival: float
    prompt: tuple[int, ...]
    num_output: int
    params: SamplingParams = SamplingParams()
    priority: int = 0
    terms: Terms = NO_TERMS
    then: Self | None = None

    @property
    def num_final(self) -> int:
        """Tokens of a sequence at its end, without what was said in turns before."""
        return len(self.prompt) + self.num_output

    def as_request(
        self, context: int = CONTEXT, before: tuple[int, ...] = (), now: float | None = None
    ) -> Request:
        """What the scheduler gets to see: it may go on up to `context` tokens.

        before: the conversation so far.  now: when it arrives, if that was not settled before.
        Raises `ValueError` if it does not fit.
        """
        prompt = before + self.prompt
        if len(prompt) + self.num_output > context:
            raise ValueError(
                f"request {self.name} grows to {len(prompt) + self.num_output} tokens "
                f"({len(prompt)} prompt + {self.num_output} output), the context is {context}; "
                "raise it"
            )
        return Request(
            id=self.name,
            prompt=prompt,
            params=self.params,
            arrival=self.arrival if now is None else now,
            priority=self.priority,
            eos_token_ids=frozenset({EOS}),
            max_tokens=context - len(prompt),
            terms=self.terms,
        )


Workload = Sequence[TimedRequest]  # in order of arrival
