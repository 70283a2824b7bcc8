"""How fast things go at this moment, as a policy's cost model predicts."""

from dataclasses import dataclass

from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


@dataclass(frozen=True)
class Pace:
    """Seconds that a token of a prompt takes in full steps, and that a decode step takes.

    Both are 0 where nobody knows what steps cost: then everything seems in time until it is late.
    """

    token: float = 0.0
    step: float = 0.0

    @classmethod
    def of(cls, view: View) -> "Pace":
        """With the running ones as they are, and whole steps of the token budget."""
        if view.costs is None:
            return cls()
        running = max(1, len(view.running))
        num_read = sum([sequence.num_computed for sequence in view.running])
        full = view.costs.seconds(view.token_budget, running, num_read)
        return cls(
            token=full / max(1, view.token_budget - running),
            step=view.costs.seconds(running, running, num_read),
        )

    def until_token(self, sequence: Sequence) -> float:
        """Seconds until its next token, if it ran from now on."""
        return max(self.step, self.token * sequence.num_pending)

    def until_end(self, sequence: Sequence) -> float:
        """Seconds until its last token; of an unknown number of tokens, one is expected."""
        predicted = sequence.request.terms.predicted_tokens or 1.0
        after = max(0.0, predicted - sequence.num_generated - 1)
        return self.until_token(sequence) + self.step * after
