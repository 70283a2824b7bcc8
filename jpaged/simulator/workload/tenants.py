"""Several clients at one server: a greedy one beside a polite one, chats beside batch jobs.

Each has its own chance, so what one asks for changes nothing of the others.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, takewhile
from typing import Unpack

from jpaged.errors import ConfigError
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.terms import NO_TERMS, Terms
from jpaged.simulator.lengths import SHAREGPT
from jpaged.simulator.workload.arrivals import gamma_gap, requests
from jpaged.simulator.workload.laws import Counts, check_positive
from jpaged.simulator.workload.request import PLAIN, Asked, TimedRequest


@dataclass(frozen=True)
class Tenant:
    """A client and what it asks for; lengths and cv as in `gamma`.

    begins, ends: seconds between which it asks.  terms: what it is promised.
    """

    client: str
    rate: float
    prompt_len: Counts = SHAREGPT.prompts
    output_len: Counts = SHAREGPT.outputs
    cv: float = 1.0
    begins: float = 0.0
    ends: float = float("inf")
    priority: int = 0
    terms: Terms = NO_TERMS

    def __post_init__(self) -> None:
        if not 0 <= self.begins < self.ends:
            raise ConfigError(
                f"client {self.client!r} begins at {self.begins} and ends at {self.ends} seconds; "
                "0 <= begins < ends is wanted"
            )

    def workload(self, seed: int, params: SamplingParams) -> Iterator[TimedRequest]:
        """All of them, without an end if it has none."""
        made = requests(
            gamma_gap(self.rate, self.cv),
            self.prompt_len,
            self.output_len,
            seed,
            terms=replace(self.terms, client=self.client),
            priority=self.priority,
            params=params,
        )
        shifted = (replace(each, arrival=each.arrival + self.begins) for each in made)
        return takewhile(lambda each: each.arrival < self.ends, shifted)


def tenant(
    rate: float,
    ends: float,
    begins: float = 0.0,
    cv: float = 1.0,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    seed: int = 0,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """What one client asks for between two moments: the `Tenant` that its terms name, alone."""
    terms, priority = asked.get("terms", NO_TERMS), asked.get("priority", 0)
    check_positive(ends=ends)
    who = Tenant(terms.client, rate, prompt_len, output_len, cv, begins, ends, priority, terms)
    return list(who.workload(seed, asked.get("params", PLAIN)))


def tenants(
    *clients: Tenant, seconds: float, seed: int = 0, params: SamplingParams = PLAIN
) -> list[TimedRequest]:
    """What all clients ask for in so many seconds, by arrival; names begin with the client's.

    Raises `ConfigError`, also for a client that is named twice.
    """
    check_positive(seconds=seconds)
    twice = [name for name, times in Counter(each.client for each in clients).items() if times > 1]
    if twice:
        raise ConfigError(
            f"named twice: {', '.join(twice)}; `mix` workloads of other seeds for a client that "
            "asks for two kinds of things"
        )
    asked = {each.client: each.workload(seed, params) for each in clients}
    merged = _by_arrival(renamed(each, name) for name, each in asked.items())
    return list(takewhile(lambda each: each.arrival < seconds, merged))


def mix(*workloads: Iterable[TimedRequest]) -> list[TimedRequest]:
    """Workloads together, by arrival.  See `merge`."""
    return list(merge(*workloads))


def merge(*workloads: Iterable[TimedRequest]) -> Iterator[TimedRequest]:
    """Workloads together, by arrival, as they are made.

    Names and sessions get the workload's place in front, `0/` for the first one.  Raises
    `ConfigError` for a workload that is not in order of arrival, and for two that have the same
    prompts.
    """
    streams, seen = [], {}
    for place, workload in enumerate(workloads):
        stream = iter(workload)
        beginning = list(islice(stream, 1))
        for each in beginning:
            if each.prompt in seen:
                raise ConfigError(
                    f"workloads {seen[each.prompt]} and {place} have the same prompts, which "
                    "would be found in the cache: give them other seeds or clients"
                )
            seen[each.prompt] = place
        streams.append(renamed(_in_order(chain(beginning, stream), place), str(place)))
    return _by_arrival(streams)


def renamed(workload: Iterable[TimedRequest], prefix: str) -> Iterator[TimedRequest]:
    """The same requests, with a prefix to all names and sessions."""
    for each in workload:
        yield _renamed(each, prefix)


def _renamed(first: TimedRequest, prefix: str) -> TimedRequest:
    turns = list(first.turns)
    terms, then = first.terms, None
    if terms.session:
        terms = replace(terms, session=f"{prefix}/{terms.session}")
    for turn in reversed(turns):
        then = replace(turn, name=f"{prefix}/{turn.name}", terms=terms, then=then)
    assert then is not None
    return then


def _by_arrival(streams: Iterable[Iterator[TimedRequest]]) -> Iterator[TimedRequest]:
    return heapq.merge(*streams, key=lambda each: each.arrival)


def _in_order(workload: Iterable[TimedRequest], place: int) -> Iterator[TimedRequest]:
    latest = 0.0
    for each in workload:
        if not each.arrival >= latest:
            raise ConfigError(
                f"workload {place} is not in order of arrival: request {each.name} arrives at "
                f"{each.arrival}, one before it at {latest}; sort it"
            )
        latest = each.arrival
        yield each
