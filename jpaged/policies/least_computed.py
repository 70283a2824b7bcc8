"""Whoever lost least gives way."""

from jpaged.scheduling.policy import Fcfs
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class LeastComputed(Fcfs):
    """First come, first served; where pages run out, who has the fewest tokens computed loses them.

    What a preemption costs is what will be computed again, and the last to arrive may have just
    read a long prompt.  vLLM's issue 54644.  Not by `View.recompute_cost`: that is least for who
    shares all its pages, and would free none.
    """

    def victim(self, view: View) -> Sequence:
        return min(reversed(view.running), key=lambda sequence: sequence.num_computed)
