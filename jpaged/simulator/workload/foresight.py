"""What nobody can know, told to policies all the same: the upper bound of any prediction."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from jpaged.scheduling.terms import Terms
from jpaged.simulator.workload.request import TimedRequest


def foretold(workload: Iterable[TimedRequest]) -> Iterator[TimedRequest]:
    """The same requests, whose terms say how many tokens they will say (`predicted_tokens`); their
    sessions' later turns included."""
    for request in workload:
        told = None
        for turn in reversed(tuple(request.turns)):
            told = replace(turn, terms=_with_fate(turn), then=told)
        assert told is not None
        yield told


def _with_fate(turn: TimedRequest) -> Terms:
    return replace(turn.terms, predicted_tokens=float(turn.num_output), predicted_by="fate")
