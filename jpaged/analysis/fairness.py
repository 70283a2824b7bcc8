"""How evenly clients were served.

Service is counted as by Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024: a
token of a prompt 1, a token that was said 2.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from jpaged.scheduling.events import RequestRecord

PROMPT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0


def jain(shares: Iterable[float]) -> float:
    """From 1 / n, where one of n has all, to 1, where all have the same; 1 of nothing at all.

    Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource
    Allocation in Shared Computer Systems", DEC-TR-301, 1984.
    """
    values = list(shares)
    squares = len(values) * sum(value * value for value in values)
    return sum(values) ** 2 / squares if squares else 1.0


def service_of(record: RequestRecord) -> float:
    """What one sequence got in all."""
    if record.first_token is None:
        return 0.0
    return PROMPT_WEIGHT * record.num_prompt + OUTPUT_WEIGHT * record.num_output


def service_by_client(ended: Iterable[RequestRecord]) -> dict[str, float]:
    """What each client got in all, in order of its name."""
    service: dict[str, float] = defaultdict(float)
    for record in ended:
        service[record.client] += service_of(record)
    return dict(sorted(service.items()))


def service_over_time(
    ended: Iterable[RequestRecord], times: Sequence[float]
) -> dict[str, list[float]]:
    """What each client had got at each of the times.

    A prompt counts when the first token is said.  Where the times of tokens were not kept, they
    are taken to be evenly apart.
    """
    grants: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in ended:
        grants[record.client] += _grants(record)
    found = {}
    for client, given in sorted(grants.items()):
        given.sort()
        so_far = [0.0, *accumulate(amount for _, amount in given)]
        moments = [moment for moment, _ in given]
        found[client] = [so_far[bisect_right(moments, time)] for time in times]
    return found


def _grants(record: RequestRecord) -> list[tuple[float, float]]:
    first, last = record.first_token, record.last_token
    if first is None or last is None:
        return []
    tokens: Sequence[float] = record.token_times
    if not tokens:
        gap = (last - first) / max(1, record.num_output - 1)
        tokens = [first + index * gap for index in range(record.num_output)]
    prompt = (first, PROMPT_WEIGHT * record.num_prompt)
    return [prompt, *((time, OUTPUT_WEIGHT) for time in tokens)]
