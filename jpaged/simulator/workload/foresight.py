"""What nobody can know, told to policies all the same: the upper bound of any prediction."""

from collections.abc import Iterable
from dataclasses import replace

from jpaged.simulator.workload.request import TimedRequest


def foretold(workload: Iterable[TimedRequest]) -> list[TimedRequest]:
    """The same requests, whose terms say how many tokens they will say (`predicted_tokens`)."""
    return [_foretold(request) for request in workload]


def _foretold(request: TimedRequest) -> TimedRequest:
    terms = replace(request.terms, predicted_tokens=float(request.num_output), predicted_by="fate")
    then = None if request.then is None else _foretold(request.then)
    return replace(request, terms=terms, then=then)
