"""Serves a workload in virtual time: the engine's own scheduler, pages and loop.

workload ──arrivals──► Router ──► Replica: Scheduler ◄─► ServingLoop ◄─► SimulatedDevice
    ▲                                                        │
    └── next turn, after a while ◄── sequence ends ◄─────────┴──► StepRecord, RequestRecord
"""

import heapq
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Workload
from copy import deepcopy
from itertools import count
from math import inf
from typing import Any

from jpaged.errors import ConfigError
from jpaged.policies import resolve
from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.cost import CostModel, Costs
from jpaged.scheduling.event_log import about
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.page_trace import PageTrace
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.replica import Replica
from jpaged.simulator.result import Result
from jpaged.simulator.routing import ReplicaViews, RoundRobin, Router
from jpaged.simulator.workload.request import EOS, TimedRequest

DEFAULTS: dict[str, Any] = {
    "max_model_len": 2048,
    "page_size": 16,
    "num_pages": None,
    "max_num_seqs": 128,
    "max_num_batched_tokens": 2048,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "num_host_pages": 0,
    "preemption_mode": None,
    "async_scheduling": True,
    "seed": 0,
}


def simulate(
    policy: str | Policy,
    workload: Iterable[TimedRequest],
    cost_model: CostModel,
    *,
    num_replicas: int = 1,
    router: Router | None = None,
    keep_token_times: bool = True,
    trace_pages: bool = False,
    **engine_options: Any,
) -> Result:
    """Serves the workload to its end.

    policy: a name, or an object; each of several replicas gets a copy.  workload: in order of
    arrival, perhaps made while it is served.  engine_options: as of `EngineConfig` (those in
    DEFAULTS); num_pages None is as many as the cost model says fit, or else all that the seats can
    fill.  trace_pages: keeps what each page holds at every step.  Raises `ConfigError` for options,
    and `ValueError` for a request that can never fit, before it is served.
    """
    cluster = Cluster(policy, cost_model, num_replicas, router, engine_options, keep_token_times)
    cluster.result.about = about(
        cluster.replicas[0].scheduler,
        cost_model=type(cost_model).__name__,
        num_replicas=num_replicas,
        seed=cluster.options["seed"],
    )
    if trace_pages:
        cluster.result.page_traces = [PageTrace.of(replica) for replica in cluster.replicas]
    if isinstance(workload, Workload):  # else each is looked at when it arrives
        check_fits(workload, cluster.options["max_model_len"])
    return cluster.serve(workload)


def check_fits(workload: Workload, context: int) -> None:
    """Raises `ValueError` for the first request, or turn of a session, that grows beyond it."""
    for first in workload:
        turn, before = first, 0
        while turn is not None:
            before += turn.num_final
            if before > context:
                raise ValueError(
                    f"request {turn.name} grows to {before} tokens, the turns before it included; "
                    f"the context is {context}: raise max_model_len or shorten the workload"
                )
            turn = turn.then


class Cluster:
    """Replicas under one router, and what is still to come."""

    def __init__(
        self,
        policy: str | Policy,
        cost_model: CostModel,
        num_replicas: int,
        router: Router | None,
        engine_options: dict[str, Any],
        keep_token_times: bool = True,
    ):
        self.options = _options(engine_options)
        self.router = router or RoundRobin()
        self.keep_token_times = keep_token_times
        self.result = Result()
        self._underway: dict[str, TimedRequest] = {}
        self._replica_of: dict[str, int] = {}
        self._to_come: list[tuple[float, int, TimedRequest, tuple[int, ...]]] = []  # a heap
        self._serial = count()
        self._num_left: dict[str, int] = {}  # sequences of a request that have not ended
        resolved = resolve(policy)
        schedulers = [
            build_scheduler(deepcopy(resolved), cost_model, self.options)
            for _ in range(num_replicas)
        ]
        self.replicas = [
            Replica(
                scheduler,
                cost_model,
                self._fate,
                EOS,
                ahead=int(self.options["async_scheduling"]),
                on_step=lambda record, index=index: self._on_step(record, index),
                on_finish=lambda sequence, index=index: self._on_finish(sequence, index),
            )
            for index, scheduler in enumerate(schedulers)
        ]

    def serve(self, workload: Iterable[TimedRequest]) -> Result:
        """To its end: whatever happens first is next, an arrival or a replica's step."""
        arrivals = iter(workload)
        self._await_next(arrivals)
        busy: list[tuple[float, int]] = []  # a heap of (time, replica) with work
        while self._to_come or busy:
            arrival = self._to_come[0][0] if self._to_come else inf
            if not busy or arrival <= busy[0][0]:
                self._arrive(busy, arrivals)
                continue
            _, index = heapq.heappop(busy)
            replica = self.replicas[index]
            if replica.step(arrival) and replica.has_work:
                heapq.heappush(busy, (replica.clock.now, index))
        return self.result

    def _await_next(self, arrivals: Iterator[TimedRequest]) -> None:
        for each in arrivals:
            heapq.heappush(self._to_come, (each.arrival, next(self._serial), each, ()))
            return

    def _arrive(self, busy: list[tuple[float, int]], arrivals: Iterator[TimedRequest]) -> None:
        now, _, timed, before = heapq.heappop(self._to_come)
        if not before:
            self._await_next(arrivals)
        request = timed.as_request(self.options["max_model_len"], before, now)
        index = 0
        if len(self.replicas) > 1:
            schedulers = [replica.scheduler for replica in self.replicas]
            index = self.router.route(ReplicaViews(schedulers, now), request)
        replica = self.replicas[index]
        was_busy = replica.has_work
        self._underway[timed.name] = timed
        refused = replica.add(request)
        if refused is not None:
            self.result.refused.append((timed.name, refused))
            del self._underway[timed.name]
        elif not was_busy:
            heapq.heappush(busy, (replica.clock.now, index))

    def _fate(self, sequence: Sequence) -> int:
        return self._underway[sequence.request.id].num_output

    def _on_step(self, record: StepRecord, index: int) -> None:
        self.result.records.append(record)
        self.result.run_on.append(index)

    def _on_finish(self, sequence: Sequence, index: int) -> None:
        name = sequence.request.id
        timed = self._underway[name]
        self.result.ended.append(RequestRecord.of(sequence, self.keep_token_times))
        self.result.ended_on.append(index)
        self._num_left[name] = self._num_left.get(name, timed.params.num_samples) - 1
        if not self._num_left[name]:
            del self._num_left[name], self._underway[name]
            self._go_on(timed, sequence)

    def _go_on(self, timed: TimedRequest, sequence: Sequence) -> None:
        """The session's next turn, behind what was said."""
        if timed.then is not None and sequence.timing.last_token is not None:
            arrival = sequence.timing.last_token + timed.then.arrival
            entry = (arrival, next(self._serial), timed.then, tuple(sequence.tokens))
            heapq.heappush(self._to_come, entry)


def build_scheduler(policy: Policy, cost_model: CostModel, options: dict[str, Any]) -> Scheduler:
    """The scheduler that an engine with these options would have."""
    page_size, seats = options["page_size"], options["max_num_seqs"]
    pages_per_sequence = -(-options["max_model_len"] // page_size)
    num_pages = options["num_pages"]
    if num_pages is None:
        fitting = getattr(cost_model, "num_pages", None)
        num_pages = seats * pages_per_sequence
        num_pages = num_pages if fitting is None else min(num_pages, fitting(page_size))
    if num_pages * page_size < options["max_model_len"]:
        raise ConfigError(
            f"{num_pages} pages of {page_size} tokens do not hold one sequence of "
            f"{options['max_model_len']} (max_model_len); lower it or raise num_pages"
        )
    budget = min(options["max_num_batched_tokens"], seats * options["max_model_len"])
    buckets = getattr(cost_model, "buckets", None) or BucketLadder.build(
        budget, seats, pages_per_sequence
    )
    return Scheduler(
        PagePool(num_pages, page_size),
        policy,
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        enable_prefix_caching=options["enable_prefix_caching"],
        enable_chunked_prefill=options["enable_chunked_prefill"],
        num_host_pages=options["num_host_pages"],
        swaps=options["preemption_mode"] != "recompute",
        buckets=buckets,
        costs=Costs(cost_model, buckets),
        seed=options["seed"],
    )


def _options(given: dict[str, Any]) -> dict[str, Any]:
    unknown = given.keys() - DEFAULTS.keys()
    if unknown:
        raise ConfigError(
            f"a simulation has no option {', '.join(sorted(unknown))}; there are "
            f"{', '.join(DEFAULTS)}"
        )
    return DEFAULTS | given
