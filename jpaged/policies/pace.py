"""How fast things go at this moment, as a policy's cost model predicts."""

from dataclasses import dataclass

from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


@dataclass(frozen=True)
class Pace:
    """Seconds that a token of a prompt takes in full steps, that a decode step takes, and that the
    next step will.

    All are 0 where nobody knows what steps cost: then everything seems in time until it is late.
    """

    token: float = 0.0
    step: float = 0.0
    next_step: float = 0.0

    @classmethod
    def of(cls, view: View) -> "Pace":
        """With those who run now, and whole steps of the token budget."""
        if view.costs is None:
            return cls()
        seconds, budget = view.costs.seconds, view.token_budget
        running = min(max(1, len(view.running)), budget)
        num_read = sum([sequence.num_computed for sequence in view.running])
        num_tokens = running
        for sequence in view.waiting:
            num_tokens += sequence.num_pending
            if num_tokens >= budget:
                break
        full = seconds(budget, running, num_read)
        return cls(
            token=full / max(1, budget - running),
            step=seconds(running, running, num_read),
            next_step=seconds(min(num_tokens, budget), running, num_read),
        )

    def until_token(self, sequence: Sequence) -> float:
        """Seconds until its next token, if it runs from the next step on.

        An engine schedules that one while another is under way, which takes as long, say.
        """
        return self.next_step + max(self.next_step, self.token * sequence.num_pending)

    def until_end(self, sequence: Sequence) -> float:
        """Seconds until its last token; of an unknown number of tokens, one is expected."""
        predicted = sequence.request.terms.predicted_tokens or 1.0
        after = max(0.0, predicted - sequence.num_generated - 1)
        return self.until_token(sequence) + self.step * after
