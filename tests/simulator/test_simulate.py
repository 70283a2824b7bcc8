"""Whole simulations, against hand computation, queueing theory and the laws of bookkeeping."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from jpaged.errors import ConfigError, PolicyWarning
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.cost import CostModel, StepShape
from jpaged.scheduling.events import RequestRecord
from jpaged.scheduling.policy import Fcfs, Policy
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.lengths import ALPACA
from jpaged.simulator.routers import (
    Disaggregated,
    Freest,
    LeastLoaded,
    PrefixAffinity,
    Rebalancing,
    RoundRobin,
)
from jpaged.simulator.routing import Router
from jpaged.simulator.workload import TimedRequest, generate, poisson_arrivals

SECOND = Constant(step=1.0)


def a_request(
    name: str, arrival: float = 0.0, prompt: int = 3, num_output: int = 2, **others
) -> TimedRequest:
    """Its prompt begins like no other's."""
    first = 100 * sum(name.encode())
    return TimedRequest(name, arrival, tuple(range(first, first + prompt)), num_output, **others)


def by_name(result: Result) -> dict[str, RequestRecord]:
    return {record.request_id: record for record in result.ended}


def run(
    *workload: TimedRequest,
    policy: str | Policy = "fcfs",
    cost_model: CostModel = SECOND,
    **options: Any,
) -> Result:
    options = {"async_scheduling": False} | options
    return simulate(policy, list(workload), cost_model, **options)


def test_times_follow_from_the_steps():
    """a's prompt takes the first second; b comes meanwhile and joins in the second one."""
    result = run(a_request("a", 0.0, num_output=3), a_request("b", 0.5, num_output=2))

    a, b = by_name(result)["a"], by_name(result)["b"]
    assert a.token_times == (1.0, 2.0, 3.0) and b.token_times == (2.0, 3.0)
    assert (a.ttft, a.tpot, a.latency) == (1.0, 1.0, 3.0)
    assert (b.ttft, b.tpot, b.latency) == (1.5, 1.0, 2.5)
    assert [step.num_tokens for step in result.records] == [3, 1 + 3, 1 + 1]


def test_a_step_ahead_hides_the_hosts_work_behind_the_devices():
    model = Constant(step=1.0, host_seconds=0.25)

    late = run(a_request("a", num_output=4), cost_model=model)
    ahead = run(a_request("a", num_output=4), cost_model=model, async_scheduling=True)

    assert late.ended[0].token_times == (1.25, 2.5, 3.75, 5.0)
    assert ahead.ended[0].token_times == (1.25, 2.25, 3.25, 4.25)


def test_a_step_ahead_lets_newcomers_in_a_step_later():
    """At 1.0, when b is heard of, the step from 1.0 to 2.0 is made already."""
    late, ahead = [
        run(
            a_request("a", num_output=4),
            a_request("b", 0.5, num_output=1),
            async_scheduling=is_ahead,
        )
        for is_ahead in (False, True)
    ]
    assert by_name(late)["b"].last_token == 2.0
    assert by_name(ahead)["b"].last_token == 3.0


def test_samples_share_their_prompt_and_end_each_by_itself():
    result = run(a_request("a", prompt=4, num_output=2, params=SamplingParams(n=3)))

    assert [record.index for record in result.ended] == [0, 1, 2]
    assert {record.token_times for record in result.ended} == {(1.0, 2.0)}
    # four tokens of the first, and for each of the others the last one again
    assert [step.num_tokens for step in result.records] == [4 + 1 + 1, 3]


@pytest.mark.parametrize("step, ends", [(1.0, 2.0), (3.0, 6.0)])
def test_a_sessions_next_turn_comes_after_a_while_behind_all_that_was_said(step, ends):
    second = a_request("second", arrival=5.0, prompt=2, num_output=1)
    result = run(a_request("first", then=second), cost_model=Constant(step))

    record = by_name(result)["second"]
    assert record.arrival == ends + 5.0
    assert record.first_token == ends + 5.0 + step
    assert record.num_prompt == 3 + 2 + 2


class Choosy(Fcfs):
    """Serves nobody whose name begins with x."""

    def refuse(self, view, request):
        return "not you" if request.id.startswith("x") else None


def test_who_is_refused_is_named_and_costs_the_others_nothing():
    result = run(
        a_request("a"), a_request("x", 0.0, then=a_request("then")), a_request("b"), policy=Choosy()
    )
    [(name, reason)] = result.refused
    assert name == "x" and reason.endswith("Choosy: not you")
    assert by_name(result).keys() == {"a", "b"}  # who is refused has no next turn
    assert {record.latency for record in result.ended} == {2.0}


@dataclass
class Patient(Fcfs):
    """Waits for company, but not longer than so many seconds."""

    patience: float

    def propose(self, view):
        is_late = view.waiting and view.now >= view.waiting[0].arrival + self.patience
        if view.running or is_late or len(view.waiting) > 1:
            yield from super().propose(view)

    def wake_at(self, view):
        return view.waiting[0].arrival + self.patience


def test_a_policy_may_wait_until_a_time_or_for_company():
    alone = run(a_request("a", 1.0, num_output=1), policy=Patient(4.0))
    assert alone.ended[0].last_token == 6.0

    two = run(
        a_request("a", 1.0, num_output=1), a_request("b", 2.5, num_output=1), policy=Patient(4.0)
    )
    assert [record.last_token for record in two.ended] == [3.5, 3.5]
    assert len(two.records) == 1


class ByFirstLetter(RoundRobin):
    def route(self, replicas, request):
        return int(request.id[0])


def test_who_waits_on_one_replica_hears_in_time_of_what_happens_on_another():
    """The turn that follows 1a arrives at 2.0 and is the company that 0a waits for."""
    result = run(
        a_request("0a", num_output=1),
        a_request("1a", num_output=1, then=a_request("0b", arrival=1.0, num_output=1)),
        a_request("1b", num_output=1),
        policy=Patient(8.0),
        num_replicas=2,
        router=ByFirstLetter(),
    )
    ends = {name: record.last_token for name, record in by_name(result).items()}
    assert ends == {"1a": 1.0, "1b": 1.0, "0a": 3.0, "0b": 3.0}


TIGHT = {"page_size": 4, "max_model_len": 16, "num_pages": 5, "enable_prefix_caching": False}


def test_where_pages_run_out_the_later_one_is_computed_anew():
    """Two prompts of two pages fit in five.  In the second step each needs a third page: a gets it,
    b gives way until a has ended, at 8, and begins with its nine tokens, eight of them again."""
    pair = [a_request(name, prompt=8, num_output=8) for name in ("a", "b")]
    result = run(*pair, **TIGHT)

    a, b = by_name(result)["a"], by_name(result)["b"]
    assert (a.num_preemptions, b.num_preemptions) == (0, 1)
    assert a.token_times == tuple(map(float, range(1, 9)))
    assert b.token_times == (1.0, *map(float, range(9, 16)))
    assert sum(step.num_recomputed for step in result.records) == 8
    assert max(step.pages_held for step in result.records) <= 5


@dataclass(frozen=True)
class Moving:
    """A second a step, and a minute for each page that moves."""

    host_seconds: float = 0.0

    def seconds(self, shape: StepShape) -> float:
        return 1.0 + 60.0 * shape.num_moved


def test_swapped_pages_cost_what_the_model_says_and_nothing_is_computed_anew():
    pair = [a_request(name, prompt=8, num_output=8) for name in ("a", "b")]
    result = run(*pair, cost_model=Moving(), num_host_pages=8, **TIGHT)

    out, back = (
        sum(getattr(step, f"pages_swapped_{where}") for step in result.records)
        for where in ("out", "in")
    )
    assert out == back > 0 and not any(step.num_recomputed for step in result.records)
    busy = sum(step.end - step.start for step in result.records)
    assert busy == len(result.records) + 60 * (out + back)


def test_one_server_of_constant_service_is_an_m_d_1_queue():
    """Lindley's recursion says when each request begins, Pollaczek and Khinchine how long they wait
    in the mean: load / (2 (1 - load)) services."""
    load, times = 0.7, poisson_arrivals(Random(1), 0.7)
    workload = [a_request(str(i), next(times), prompt=1, num_output=1) for i in range(6000)]

    result = run(*workload, max_num_seqs=1, max_model_len=16)

    free_at, waits = 0.0, []
    for request in workload:
        begins = max(free_at, request.arrival)
        waits.append(begins - request.arrival)
        free_at = begins + 1.0
    records = by_name(result)
    for request, wait in zip(workload, waits, strict=True):
        assert records[request.name].ttft == pytest.approx(wait + 1.0, abs=1e-6)
    # successive waits resemble each other: the mean of 6000 has a standard error of about a tenth
    assert sum(waits) / len(waits) == pytest.approx(load / (2 * (1 - load)), rel=0.2)


def test_one_server_of_any_service_serves_in_order_of_arrival():
    rng, times = Random(2), poisson_arrivals(Random(3), 0.1)
    lengths = [rng.choice((1, 2, 20)) for _ in range(400)]
    workload = [
        a_request(str(i), next(times), prompt=1, num_output=length)
        for i, length in enumerate(lengths)
    ]
    records = by_name(run(*workload, max_num_seqs=1, max_model_len=32))

    free_at = 0.0
    for request in workload:
        free_at = max(free_at, request.arrival) + request.num_output
        assert records[request.name].last_token == pytest.approx(free_at)


def a_mixed_workload(seed: int, num_requests: int = 60) -> list[TimedRequest]:
    """Samples, sessions and prefixes, more than a small pool holds."""
    rng = Random(seed)
    workload = []
    for each in generate(ALPACA.shortened(2, 60), num_requests, 40.0, seed, num_shared=20):
        then = a_request(f"{each.name}+", rng.random(), prompt=5, num_output=rng.randint(1, 30))
        params = SamplingParams(n=rng.choice((1, 1, 1, 3)))
        workload.append(replace(each, params=params, then=rng.choice((None, then))))
    return workload


class Watched(Router):
    """Does as another one, and notes the schedulers."""

    def __init__(self, router: Router):
        self.router = router

    def route(self, replicas, request):
        SEEN.update(replica.scheduler for replica in replicas)
        return self.router.route(replicas, request)

    def moves(self, replicas, source):
        return self.router.moves(replicas, source)


SEEN: set[Scheduler] = set()
ROUTERS = (
    RoundRobin(),
    LeastLoaded(choices=2),
    PrefixAffinity(slack=2),
    Freest(),
    Disaggregated(1, token_seconds=1e-4),
    Rebalancing(token_seconds=1e-4, low=40, high=60),
)


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: type(router).__name__)
@pytest.mark.parametrize("is_ahead", [False, True])
def test_every_sequence_ends_once_as_fate_has_it_and_no_page_is_lost(router, is_ahead):
    SEEN.clear()
    workload = a_mixed_workload(0)
    result = simulate(
        "fcfs",
        workload,
        Constant(0.01, 1e-4, 1e-3),
        num_replicas=3,
        router=Watched(router),
        async_scheduling=is_ahead,
        num_pages=16,
        max_model_len=256,
        num_host_pages=4,
    )
    turns = [turn for first in workload for turn in (first, first.then) if turn is not None]
    counted = Counter((record.request_id, record.num_output) for record in result.ended)
    assert counted == {(each.name, each.num_output): each.params.num_samples for each in turns}
    assert {record.finish_reason for record in result.ended} == {"stop"}
    assert len(SEEN) == 3
    for scheduler in SEEN:
        assert scheduler.pool.num_held == 0 and not scheduler.has_unfinished
        assert scheduler.queues.host.num_used == 0
        scheduler.pool.check()
    assert len(result.run_on) == len(result.records) and set(result.run_on) == {0, 1, 2}
    assert bool(result.num_moved) == isinstance(router, Disaggregated | Rebalancing)
    for record in result.ended:  # time goes forward
        assert record.scheduled is not None
        times = [record.arrival, record.scheduled, *record.token_times]
        assert sorted(times) == times


def test_the_same_call_has_the_same_result():
    """Also with objects that keep state: they are copied."""
    policy, router = Patient(0.02), LeastLoaded(choices=2)
    first, second = [
        simulate(
            policy,
            a_mixed_workload(1),
            Constant(0.01),
            num_replicas=3,
            router=router,
            num_pages=30,
            max_model_len=256,
        )
        for _ in range(2)
    ]
    assert first == second and len(first.ended) > 60


def test_records_may_go_elsewhere_than_into_the_result():
    kept = run(*a_mixed_workload(2), num_replicas=2)
    steps, requests = [], []

    streamed = run(
        *a_mixed_workload(2),
        num_replicas=2,
        on_step=lambda *each: steps.append(each),
        on_request=lambda *each: requests.append(each),
    )
    assert steps == list(zip(kept.records, kept.run_on, strict=True))
    assert requests == list(zip(kept.ended, kept.ended_on, strict=True))
    assert not streamed.ended and not streamed.records


class Unasked(Fcfs):
    def propose(self, view):
        raise AssertionError("the run has begun")


@pytest.mark.parametrize(
    "workload, message",
    [
        ([a_request("a"), a_request("b", prompt=9, num_output=8)], "b grows to 17 .* 16"),
        ([a_request("a", prompt=9, then=a_request("b", num_output=4))], "b grows to 18 .* before"),
        ([a_request("a", 1.0), a_request("b", 0.5)], "b arrives at 0.5, after one of 1.0"),
        ([a_request("a"), a_request("a")], "two requests are named a"),
    ],
)
def test_a_workload_that_can_never_be_served_is_refused_before_the_run(workload, message):
    with pytest.raises(ValueError, match=message):
        run(*workload, policy=Unasked(), max_model_len=16)


@pytest.mark.parametrize(
    "second, message",
    [
        (a_request("b", 1.0, prompt=15), "b grows to 17 .* context is 16"),
        (a_request("b", -1.0), "b arrives at -1.0, after one of 0.0"),
        (a_request("a", 0.5), "two requests named a"),
    ],
)
def test_a_workload_made_while_it_is_served_is_checked_as_it_comes(second, message):
    with pytest.raises(ValueError, match=message):
        simulate("fcfs", iter([a_request("a"), second]), SECOND, max_model_len=16)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"page_sizes": 8}, "no option page_sizes; there are .*page_size"),
        ({"page_size": 0}, "page_size must be .* at least 1, not 0"),
        ({"num_replicas": 0}, "num_replicas must be a whole number of at least 1, not 0"),
        ({"preemption_mode": "drop"}, "preemption_mode must be one of"),
        ({"num_pages": 10}, "10 pages of 16 tokens do not hold .* 2048"),
        ({"max_num_batched_tokens": 64}, "must be at least max_num_seqs"),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 512},
            r"\(512\) is less than max_model_len \(2048\)",
        ),
    ],
)
def test_bad_options_are_refused_with_the_numbers(options, message):
    with pytest.raises(ConfigError, match=message):
        run(a_request("a"), **options)


def test_a_router_that_points_nowhere_is_named():
    class Lost(RoundRobin):
        def route(self, replicas, request):
            return 2

    with pytest.raises(ValueError, match="router Lost sends request a to replica 2; there are 2"):
        run(a_request("a"), num_replicas=2, router=Lost())


def test_a_result_says_that_its_policy_was_replaced():
    class Broken(Fcfs):
        def propose(self, view):
            raise ZeroDivisionError("a slip")

    with pytest.warns(PolicyWarning):
        result = simulate(Broken(), [TimedRequest("a", 0.0, (1, 2), 3)], Constant(step=1.0))

    assert result.about["replaced_by_fcfs"] == "ZeroDivisionError: a slip"
    assert "replaced_by_fcfs" not in simulate("fcfs", [], Constant(step=1.0)).about


@pytest.mark.parametrize("router", [RoundRobin, "round_robin"])
def test_a_router_that_is_no_object_of_its_kind_is_refused(router):
    with pytest.raises(ConfigError, match="router must be an object"):
        simulate("fcfs", [], Constant(step=1.0), router=router)


def test_what_a_policy_thinks_costs_no_virtual_time_and_is_told():
    class Thoughtful(Fcfs):
        def propose(self, view):
            time.sleep(1e-3)
            return super().propose(view)

    quick, slow = [
        run(*(a_request(f"{i}", num_output=5) for i in range(9)), policy=policy, max_num_seqs=3)
        for policy in (Fcfs(), Thoughtful())
    ]

    assert slow.records == quick.records
    assert quick.policy_seconds and slow.policy_seconds
    assert slow.policy_seconds > 1e-3 > quick.policy_seconds > 0


class Locked(Fcfs):
    def __init__(self):
        self.kept = {"itself": [self], "guards": [threading.Lock()]}


class Careful(Locked):
    def __deepcopy__(self, memo):
        return Careful()


class Listening(RoundRobin):
    def __init__(self):
        self.log = (i for i in range(3))


def test_what_cannot_be_copied_is_named_with_the_attribute_and_the_way_out():
    with pytest.raises(ConfigError, match=r"policy Locked .*self.kept\['guards'\]\[0\] is a lock"):
        run(a_request("a"), policy=Locked())
    with pytest.raises(ConfigError, match=r"router Listening .*self.log is a gen.*__deepcopy__"):
        run(a_request("a"), num_replicas=2, router=Listening())

    assert len(run(a_request("a"), policy=Careful()).ended) == 1
