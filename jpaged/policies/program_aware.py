"""Calls of programs that have got little go first."""

from collections.abc import Iterable
from math import log

from jpaged.errors import ConfigError
from jpaged.policies.decodes import apart
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View

MOST_PROGRAMS = 10_000  # that are remembered: nobody says when one has ended


class ProgramAware(Fcfs):
    """Least attained service, of the whole program (`Terms.session`) and not of the single call.

    A call starts where the calls of its program before it left off: a short program never stands
    behind the tenth call of a long one, though nobody knows how long either will be.  Service is
    counted in tokens, computed and said, and falls into levels, each `growth` times as wide as the
    one before; within a level who came first goes first.  A call that is older than `patience`
    seconds goes to the first level.

    quantum: tokens of the first level.  preempts: whether a running call makes room for one of a
    lower level, where seats or pages are short.

    PLAS of Luo et al., "Autellix: An Efficient Serving Engine for LLM Agents as General Programs",
    2025, arXiv 2502.13965.
    """

    def __init__(
        self,
        quantum: float = 256.0,
        growth: float = 2.0,
        preempts: bool = True,
        patience: float = 120.0,
    ):
        if not (quantum > 0 and growth > 1 and patience > 0):
            raise ConfigError(
                f"quantum={quantum} and patience={patience} must be above 0, "
                f"growth={growth} above 1"
            )
        self.quantum, self.growth = quantum, growth
        self.preempts, self.patience = preempts, patience
        self.attained: dict[str, float] = {}  # by the ended calls of a program; the latest last

    def program(self, sequence: Sequence) -> str:
        """Calls of the same one add up; "" is a program of one call."""
        return sequence.request.terms.session

    def service(self, sequence: Sequence) -> float:
        """Tokens that its program got: by calls that ended, and by this one."""
        own = max(sequence.num_computed, sequence.num_reached) - sequence.num_cached
        return self.attained.get(self.program(sequence), 0.0) + own

    def level(self, sequence: Sequence, now: float) -> int:
        """Lower goes first."""
        if now - sequence.arrival > self.patience:
            return 0
        service = max(0.0, self.service(sequence))
        return int(log(1 + (self.growth - 1) * service / self.quantum, self.growth))

    def propose(self, view: View) -> Iterable[Wish]:
        decodes, prompts = apart(view)
        yield from ((sequence, 1) for sequence in decodes)
        for sequence in sorted(prompts, key=lambda s: (self.level(s, view.now), s.serial)):
            yield sequence, sequence.num_pending

    def preempt(self, view: View) -> Iterable[Sequence]:
        if not self.preempts or not view.waiting:
            return ()
        now = view.now
        first = min(view.waiting, key=lambda s: (self.level(s, now), s.serial))
        if view.free_seats and view.free_pages * view.page_size >= len(first.tokens):
            return ()
        since = now - self.patience
        candidates = [s for s in view.running if s.request.arrival >= since]
        worst = max(candidates, key=self.service, default=None)
        if worst is None or self.level(worst, now) <= self.level(first, now):
            return ()
        return (worst,)

    def victim(self, view: View) -> Sequence:
        return max(view.running, key=lambda s: (self.level(s, view.now), s.serial))

    def on_finish(self, sequence: Sequence, now: float) -> None:
        program = self.program(sequence)
        if program:
            service = self.service(sequence)
            self.attained.pop(program, None)
            self.attained[program] = service
            while len(self.attained) > MOST_PROGRAMS:
                del self.attained[next(iter(self.attained))]
