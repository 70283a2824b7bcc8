"""How much a request will say: foreseen, foreseen badly, or learned from those before it."""

import math
from collections import deque
from random import Random
from typing import Protocol

from jpaged.errors import ConfigError
from jpaged.scheduling.request import Sequence


class Predictor(Protocol):
    """Believes something of the length of answers."""

    def predict(self, sequence: Sequence) -> float:
        """Tokens it will have said at its end; more than it has said if that is any surprise."""
        ...

    def learn(self, sequence: Sequence) -> None:
        """Of one that has ended by itself."""
        ...


class Oracle:
    """What the request's terms say (`predicted_tokens`).  Where they say nothing, what `otherwise`
    believes; without that, that it goes on to the end of its `max_tokens`."""

    def __init__(self, otherwise: Predictor | None = None):
        self.otherwise = otherwise

    def predict(self, sequence: Sequence) -> float:
        request = sequence.request
        if request.terms.predicted_tokens is not None:
            return request.terms.predicted_tokens
        return request.max_tokens if self.otherwise is None else self.otherwise.predict(sequence)

    def learn(self, sequence: Sequence) -> None:
        if self.otherwise is not None:
            self.otherwise.learn(sequence)


class Noisy(Oracle):
    """The oracle's number times a log-normal error of median 1, the same for a request each time.

    sigma: the standard deviation of the error's logarithm; 1 is a factor of 2.7 one way or the
    other.
    """

    def __init__(self, sigma: float, seed: int = 0):
        if not 0 <= sigma < math.inf:
            raise ConfigError(f"sigma must be at least 0 and finite, not {sigma}")
        super().__init__()
        self.sigma, self.seed = sigma, seed

    def predict(self, sequence: Sequence) -> float:
        rng = Random(f"{self.seed}/{sequence.request.id}/{sequence.index}")
        return super().predict(sequence) * math.exp(rng.gauss(0, self.sigma))


class Learned:
    """The `quantile` of what was said of late by requests like it, and longer than it was so far.

    Alike are those of a client whose prompts have about the same length (within a factor of 2);
    while there are fewer than `few` of them, all of the client; then all.  Before anything is known
    it is `prior` tokens.  Of each kind the latest `most` are remembered.
    """

    def __init__(self, quantile: float = 0.5, prior: float = 256.0, few: int = 8, most: int = 200):
        if not 0 <= quantile < 1:
            raise ConfigError(f"quantile must be at least 0 and below 1, not {quantile}")
        self.quantile, self.prior, self.few, self.most = quantile, prior, few, most
        self.said: dict[tuple[str | int, ...], deque[int]] = {}

    def predict(self, sequence: Sequence) -> float:
        for kind in kinds(sequence):
            lengths = self.said.get(kind, ())
            if len(lengths) >= self.few:
                longer = sorted(each for each in lengths if each > sequence.num_generated)
                if longer:
                    return longer[int(self.quantile * len(longer))]
        return self.prior

    def learn(self, sequence: Sequence) -> None:
        for kind in kinds(sequence):
            self.said.setdefault(kind, deque(maxlen=self.most)).append(sequence.num_generated)


def kinds(sequence: Sequence) -> tuple[tuple[str | int, ...], ...]:
    """What a request is one of, the narrowest first."""
    client = sequence.client
    return (client, sequence.num_prompt.bit_length()), (client,), ()
