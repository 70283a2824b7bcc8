"""Queues of falling urgency: who has said much is taken for one who will say much more.

level   0   1    2      3         of who has had less than 1, 2, 4, 8 … quanta of service;
        ►   ►    ►      ►    …    a long prompt skips the first
"""

from collections.abc import Iterable

from jpaged.errors import ConfigError
from jpaged.policies.ranked import Ranked
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View

PROMPT_STEP = 512  # tokens of a prompt taken to cost as much as a decode step, if nobody knows


class FastServe(Ranked):
    """Skip-join multi-level feedback: short answers overtake long ones, and nobody predicts them.

    Service is counted in decode steps: the tokens said, and what the prompt is worth by the cost
    model, counted before it is computed, so that a long prompt joins a lower queue at once.
    quantum: what the first queue gives; each after it gives as much as all before.  patience:
    seconds without a token after which one who waits starts again from the top.  Whoever is pushed
    out goes to the host, where there is room.

    Wu et al., "Fast Distributed Inference Serving for Large Language Models", arXiv:2305.05920
    (FastServe, NSDI 2026).  They keep what was pushed out on the device until somebody needs the
    pages; here the prefix cache does.
    """

    preempts = True

    def __init__(self, quantum: int = 32, patience: float = 60.0):
        if not (quantum >= 1 and patience > 0):
            raise ConfigError(
                f"quantum={quantum} must be at least 1 token, patience={patience} above 0 seconds"
            )
        self.quantum, self.patience = quantum, patience
        self.forgiven: dict[str, int] = {}  # by request, service that does not count any more
        self.prompt_cost: float | None = None  # decode steps a token

    def rank(self, sequence: Sequence, view: View) -> float:
        service = self.service(sequence, view) - self.forgiven.get(sequence.request.id, 0)
        return (service // self.quantum).bit_length()

    def service(self, sequence: Sequence, view: View) -> int:
        """Decode steps that it has had, its prompt's included."""
        if self.prompt_cost is None:
            self.prompt_cost = prompt_cost(view)
        return sequence.num_generated + int(sequence.num_prompt * self.prompt_cost)

    def preempt(self, view: View) -> Iterable[Sequence]:
        self._promote(view)
        return super().preempt(view)

    def _promote(self, view: View) -> None:
        """Those who have waited too long begin anew."""
        for sequence in view.waiting:
            timing = sequence.timing
            since = sequence.arrival if timing.last_token is None else timing.last_token
            if view.now - since > self.patience:
                self.forgiven[sequence.request.id] = self.service(sequence, view)

    def wants_swap(self, view: View, victim: Sequence) -> bool:
        return True

    def on_finish(self, sequence: Sequence, now: float) -> None:
        self.forgiven.pop(sequence.request.id, None)


def prompt_cost(view: View) -> float:
    """Decode steps that a token of a prompt is worth."""
    if view.costs is None:
        return 1 / PROMPT_STEP
    size = view.token_budget
    return view.costs.seconds(size, 1, size) / view.costs.seconds(1, 1, 1) / size
