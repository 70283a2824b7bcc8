"""The most urgent first, and the patient are not forgotten."""

from collections.abc import Iterable

from jpaged.errors import ConfigError
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class Priority(Fcfs):
    """Lower `priority` goes first, as in vLLM; waiting `aging` seconds earns one level.

    aging=inf is strict priority, under which the lowest may starve.  Ties go by arrival.
    """

    def __init__(self, aging: float = 30.0):
        if not aging > 0:
            raise ConfigError(f"aging must be above 0 seconds, not {aging}; inf means none")
        self.aging = aging

    def rank(self, sequence: Sequence, now: float) -> tuple[float, int]:
        """Smaller is more urgent."""
        return sequence.priority - (now - sequence.arrival) / self.aging, sequence.serial

    def propose(self, view: View) -> Iterable[Wish]:
        everyone = (*view.running, *view.waiting)
        for sequence in sorted(everyone, key=lambda s: self.rank(s, view.now)):
            yield sequence, sequence.num_pending

    def victim(self, view: View) -> Sequence:
        return max(view.running, key=lambda s: self.rank(s, view.now))
