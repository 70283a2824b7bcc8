"""Whose promise falls due first, or has least slack; what cannot be kept any more can wait."""

from collections.abc import Iterable
from math import inf

from jpaged.policies.decodes import apart
from jpaged.policies.pace import Pace
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


def due(sequence: Sequence) -> float:
    """When the next promise to it falls due, of the next token or of the last; inf if none was
    made."""
    terms, timing = sequence.request.terms, sequence.timing
    when = inf
    if timing.first_token is None:
        when = inf if terms.ttft is None else sequence.arrival + terms.ttft
    elif terms.tpot is not None:
        when = timing.first_token + terms.tpot * sequence.num_generated
    return when if terms.deadline is None else min(when, sequence.arrival + terms.deadline)


def slack(sequence: Sequence, now: float, pace: Pace) -> float:
    """Seconds that it may still wait and keep all its promises; below 0 it is too late for one."""
    terms, timing = sequence.request.terms, sequence.timing
    left = inf
    if terms.ttft is not None:
        first = timing.first_token
        first = now + pace.until_token(sequence) if first is None else first
        left = sequence.arrival + terms.ttft - first
        # once kept it does not press any more
        left = inf if timing.first_token is not None and left >= 0 else left
    if terms.tpot is not None and timing.first_token is not None:
        left = min(left, due(sequence) - now - pace.until_token(sequence))
    if terms.deadline is not None:
        last = now + pace.until_end(sequence)
        left = min(left, sequence.arrival + terms.deadline - last)
    return left


class EarliestDeadline(Fcfs):
    """Decodes everyone, then runs prompts in the order in which their promises fall due.

    demotes: those that can no longer keep theirs come after all who can, the eldest first: under
    overload it is they who are due first, and one that is late anyway makes the next one late.
    False is the plain rule, which is optimal for one machine that is fast enough.

    Liu and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment",
    JACM 1973.
    """

    def __init__(self, demotes: bool = True):
        self.demotes = demotes

    def urgency(self, sequence: Sequence, now: float, pace: Pace) -> float:
        """Smaller goes first."""
        return due(sequence)

    def rank(self, sequence: Sequence, now: float, pace: Pace) -> tuple[bool, float, int]:
        """Smaller goes first; first of all whether it is too late."""
        if self.demotes and slack(sequence, now, pace) < 0:
            return True, 0.0, sequence.serial
        return False, self.urgency(sequence, now, pace), sequence.serial

    def propose(self, view: View) -> Iterable[Wish]:
        decodes, prompts = apart(view)
        yield from ((sequence, 1) for sequence in decodes)
        if not prompts:
            return
        now, pace = view.now, Pace.of(view)
        for sequence in sorted(prompts, key=lambda s: self.rank(s, now, pace)):
            yield sequence, sequence.num_pending

    def victim(self, view: View) -> Sequence:
        now, pace = view.now, Pace.of(view)
        return max(view.running, key=lambda s: self.rank(s, now, pace))


class LeastSlack(EarliestDeadline):
    """The same by slack: what is due, less the time that the work up to there takes.

    A long prompt starts sooner than a short one with the same promise.  It needs a cost model, and
    for deadlines `Terms.predicted_tokens`; without them it is `EarliestDeadline`.

    Mok, "Fundamental Design Problems of Distributed Systems for the Hard-Real-Time Environment",
    MIT 1983.
    """

    def urgency(self, sequence: Sequence, now: float, pace: Pace) -> float:
        return slack(sequence, now, pace)
