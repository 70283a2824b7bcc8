"""Serves a workload in virtual time: the engine's own scheduler, pages and loop.

workload ──arrivals──► Router ──► Replica: Scheduler ◄─► ServingLoop ◄─► SimulatedDevice
    ▲                                                        │
    └── next turn, after a while ◄── sequence ends ◄─────────┴──► StepRecord, RequestRecord
"""

import time
from collections.abc import Iterable
from collections.abc import Sequence as Workload
from typing import Any

from jpaged.errors import ConfigError
from jpaged.policies import resolve
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.event_log import about
from jpaged.scheduling.page_trace import PageTrace
from jpaged.scheduling.policy import Policy
from jpaged.simulator.building import build_scheduler, check_options
from jpaged.simulator.cluster import Cluster, OnRequest, OnStep
from jpaged.simulator.copies import copy_of
from jpaged.simulator.device import Fate
from jpaged.simulator.replica import OnFinish, Replica
from jpaged.simulator.replica import OnStep as OnReplicaStep
from jpaged.simulator.result import Result, policy_seconds
from jpaged.simulator.routers import RoundRobin
from jpaged.simulator.routing import Router
from jpaged.simulator.workload.request import EOS, TimedRequest

TIMED_ONE_IN = 17  # steps whose policy is timed; a prime, since what policies do has its rhythm


def simulate(
    policy: str | Policy,
    workload: Iterable[TimedRequest],
    cost_model: CostModel,
    *,
    num_replicas: int = 1,
    router: Router | None = None,
    keep_token_times: bool = True,
    trace_pages: bool = False,
    on_step: OnStep | None = None,
    on_request: OnRequest | None = None,
    **engine_options: Any,
) -> Result:
    """Serves the workload to its end.

    policy: a name, or an object.  router: where there are several replicas; each in its turn, if
    nothing is said.  Each replica gets a copy of the policy, and the run a copy of the router, so
    the same call has the same result.  workload: in order of arrival, each name once, perhaps made
    while it is served.  on_step, on_request: called with each record and the number of its replica,
    instead of keeping them in the result, which grows by eight kilobytes a request.  trace_pages:
    keeps what each page holds at every step.  engine_options: as of `EngineConfig` (those in
    OPTIONS), or else what the cost model was measured with, if it was; num_pages None is as many as
    the cost model says fit, or else all that the seats can fill.

    A policy decides in no time here, however long it thinks: virtual time knows the cost model's
    seconds alone.  What it would take on a server, every step, is `Result.policy_seconds`.

    Raises `ConfigError` for options, and `ValueError` for a request that can never fit: before the
    run where the workload is a list.
    """
    config = check_options(engine_options, cost_model)
    assert config.max_model_len is not None
    if router is not None and not isinstance(router, Router):
        raise ConfigError(
            f"router must be an object of `jpaged.simulator.routers`, not {router!r}; a class is "
            "called first, as in PrefixAffinity()"
        )
    if type(num_replicas) is not int or num_replicas < 1:
        raise ConfigError(
            f"num_replicas must be a whole number of at least 1, not {num_replicas!r}"
        )
    if isinstance(workload, Workload):  # else each is looked at when it arrives
        check_workload(workload, config.max_model_len)
    resolved, result, told = resolve(policy), Result(), set[str]()

    def build(fate: Fate, on_step: OnReplicaStep, on_finish: OnFinish) -> Replica:
        scheduler = build_scheduler(copy_of(resolved, "policy"), cost_model, config)
        scheduler.counsel.told = told  # what one replica's policy was blamed for, all others' is
        scheduler.counsel.timed_one_in = TIMED_ONE_IN
        return Replica(
            scheduler,
            cost_model,
            fate,
            EOS,
            ahead=int(config.async_scheduling),
            on_step=on_step,
            on_finish=on_finish,
            stopwatch=time.perf_counter,
        )

    cluster = Cluster(
        build,
        num_replicas,
        copy_of(router, "router") if router else RoundRobin(),
        config.max_model_len,
        on_step or result.add_step,
        on_request or result.add_request,
        keep_token_times,
    )
    result.about = about(
        cluster.replicas[0].scheduler,
        cost_model=type(cost_model).__name__,
        num_replicas=num_replicas,
        seed=config.seed,
    )
    if trace_pages:
        result.page_traces = [PageTrace.of(replica) for replica in cluster.replicas]
    cluster.serve(workload)
    result.policy_seconds = policy_seconds([each.scheduler.counsel for each in cluster.replicas])
    errors = [each.scheduler.policy_error for each in cluster.replicas]
    if failed := [each for each in errors if each is not None]:
        result.about["replaced_by_fcfs"] = f"{type(failed[0]).__name__}: {failed[0]}"
    result.refused, result.num_moved = cluster.refused, cluster.transfers.num_moved
    return result


def check_workload(workload: Workload[TimedRequest], context: int) -> None:
    """Raises `ValueError` for a request, or turn of a session, that comes before its predecessor or
    has the name of another, and for the one that grows farthest beyond the context."""
    names, latest, longest, most = set[str](), float("-inf"), "", context
    for first in workload:
        if first.arrival < latest:
            raise ValueError(
                f"request {first.name} arrives at {first.arrival}, after one of {latest}; "
                "sort the workload by arrival"
            )
        latest = first.arrival
        turn, before = first, 0
        while turn is not None:
            if turn.name in names:
                raise ValueError(f"two requests are named {turn.name}; give each its own name")
            names.add(turn.name)
            before += turn.num_final
            if before > most:
                longest, most = turn.name, before
            turn = turn.then
    if most > context:
        enough = 1 << (most - 1).bit_length()  # of other seeds some may be a little longer
        raise ValueError(
            f"request {longest} grows to {most} tokens, the turns before it included; the context "
            f"is {context}: raise max_model_len (from a shell, --option max_model_len={enough}) or "
            "shorten the workload"
        )
