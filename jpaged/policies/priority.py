"""The most urgent first, and the patient are not forgotten."""

from jpaged.errors import ConfigError
from jpaged.policies.ranked import Ranked
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class Priority(Ranked):
    """Lower `priority` goes first, as in vLLM; waiting `aging` seconds earns one level.

    aging=inf is strict priority, under which the lowest may starve.  preempts: an urgent request
    that finds no room pushes out the least urgent who run; vLLM's does not, there these give way
    only where pages run out.  Who was pushed out keeps its age.
    """

    def __init__(self, aging: float = 30.0, preempts: bool = True):
        if not aging > 0:
            raise ConfigError(f"aging must be above 0 seconds, not {aging}; inf means none")
        self.aging = aging
        self.preempts = preempts

    def rank(self, sequence: Sequence, view: View) -> float:
        return sequence.priority - (view.now - sequence.arrival) / self.aging
