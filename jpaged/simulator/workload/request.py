"""A request of a workload: what arrives when, and what fate has in store for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypedDict

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.request import Request
from jpaged.scheduling.terms import NO_TERMS, Terms
from jpaged.simulator.lengths import CONTEXT

VOCAB = 32000  # token ids of prompts lie below
EOS = VOCAB  # what ends a sequence
PLAIN = SamplingParams()


class Asked(TypedDict, total=False):
    """What all requests of a workload may have in common."""

    terms: Terms
    priority: int
    params: SamplingParams


def source_of(seed: int, asked: Asked) -> str:
    """What the chance in a workload is named by: clients differ even where seeds do not."""
    return f"{seed}/{asked.get('terms', NO_TERMS).client}"


@dataclass(frozen=True, slots=True)  # there may be millions
class TimedRequest:
    """A request, the second it arrives, and the tokens each of its sequences will say.

    `num_output` counts the end-of-sequence token.  It is fate, not a wish: the scheduler is told
    `max_tokens`, as a user would, and learns of the end when it comes.

    prompt: token ids, in a tuple or made when they are needed (`Tokens`).

    then: the next turn of its session.  That arrives `then.arrival` seconds after this one has
    ended, and its prompt is `then.prompt` behind all that was said before.
    """

    name: str
    arrival: float
    prompt: Sequence[int]
    num_output: int
    params: SamplingParams = PLAIN
    priority: int = 0
    terms: Terms = NO_TERMS
    then: Self | None = None

    @property
    def turns(self) -> Iterator[Self]:
        """This one and those that follow it in its session."""
        turn = self
        while turn is not None:
            yield turn
            turn = turn.then

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
        prompt = before + tuple(self.prompt)
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
