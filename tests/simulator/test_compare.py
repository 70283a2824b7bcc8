"""Comparing policies: the same requests for all, and no more certainty than there is."""

import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from jpaged import ConfigError
from jpaged.policies import Fcfs, Policy, ShortestFirst
from jpaged.simulator import Constant, Router, simulate
from jpaged.simulator.compare import STUDENT, Estimate, compare
from jpaged.simulator.measures import check_measures
from jpaged.simulator.routers import RoundRobin
from jpaged.simulator.workload import Tenant, TimedRequest, from_trace, poisson, tenants

COST = Constant(step=0.02, token=1e-4)
OPTIONS: Any = {"max_num_seqs": 4, "max_model_len": 600}


TRACES = Path(__file__).parent / "traces"


class Broken(Fcfs):
    def propose(self, view):
        raise ZeroDivisionError("nobody knows")


class Mute:
    """Has no `propose`."""

    def victim(self, view):
        return view.running[0]


def a_workload(seed: int):
    return poisson(4.0, 60, prompt_len=40, output_len=[5, 5, 5, 120], seed=seed)


def test_a_policy_is_no_different_from_itself():
    both = compare({"a": Fcfs(), "b": Fcfs()}, {"w": a_workload}, COST, 3, **OPTIONS)
    for measure in ("ttft_mean", "latency_p99", "requests_per_second"):
        change = both.difference("w", "b", measure)
        assert (change.mean, change.error, change.is_different) == (0, 0, False)
    assert "(=)" in both.as_table(["ttft_mean"])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng, hits = random.Random(0), 0
    for _ in range(4000):
        found = Estimate.of([rng.gauss(3.0, 2.0) for _ in range(5)])
        hits += abs(found.mean - 3.0) <= found.error
    assert hits / 4000 == pytest.approx(0.95, abs=0.012)


def test_student_approaches_the_normal_law():
    assert list(STUDENT) == sorted(STUDENT, reverse=True)
    assert STUDENT[-1] == pytest.approx(statistics.NormalDist().inv_cdf(0.975), rel=0.05)


def test_pairs_by_seed_tell_what_means_alone_do_not():
    """Between seeds the load differs more than between policies."""
    policies = {"fcfs": Fcfs(), "shortest": ShortestFirst(chunk=64)}
    both = compare(policies, {"w": a_workload}, COST, 6, **OPTIONS)
    paired = both.difference("w", "shortest", "ttft_mean")
    alone = both.estimate("w", "fcfs", "ttft_mean")
    assert paired.error < alone.error / alone.mean


def test_every_policy_serves_the_same_requests_and_each_run_is_told():
    seen, heard = [], []

    def spied(seed: int):
        seen.append(seed)
        return a_workload(seed)

    found = compare(
        ["fcfs", "sarathi"],
        {"w": spied},
        COST,
        2,
        lambda *run: heard.append(run),
        **OPTIONS,
    )
    assert seen == [0, 1]
    assert heard == [("w", name, seed) for seed in (0, 1) for name in ("fcfs", "sarathi")]
    for measures in found.found.values():
        assert measures["num_requests"] == [60.0, 60.0]


def test_one_seed_says_nothing_of_chance():
    assert math.isnan(Estimate.of([1.0]).error)


@pytest.mark.parametrize("policies, seeds", [([], 3), (["fcfs"], 0)])
def test_an_empty_comparison_is_refused(policies, seeds):
    with pytest.raises(ConfigError, match="at least"):
        compare(policies, {"w": a_workload}, COST, seeds)


def test_an_unknown_policy_is_named_before_the_first_run():
    with pytest.raises(ConfigError, match="did you mean 'sarathi'"):
        compare(["fcfs", "sarahti"], {"w": lambda seed: pytest.fail("begun")}, COST, 1)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Fcfs, r"policy Fcfs is a class; pass Fcfs\(\)"),
        (Mute(), "has no method propose"),
        (Policy(), "has no method propose"),
        (3, "policy 3 has no method propose and no victim"),
        (None, "policy None has no method propose"),
    ],
)
def test_what_is_no_policy_is_refused_before_the_first_run(policy, says):
    policies = {"fcfs": Fcfs(), "mine": policy}
    with pytest.raises(ConfigError, match=says):
        compare(policies, {"w": lambda seed: pytest.fail("begun")}, COST, 1)


def test_a_policy_that_raises_is_not_taken_for_what_replaces_it():
    with pytest.raises(
        ConfigError, match="Broken raised ZeroDivisionError: nobody knows .*: mend it first"
    ):
        compare({"fcfs": Fcfs(), "mine": Broken()}, {"w": a_workload}, COST, 1, **OPTIONS)


def test_a_workload_that_can_never_fit_is_refused_before_the_first_run():
    def grows(seed: int):
        return [TimedRequest("a", 0.0, (1,) * 300, 100 * seed)] if seed else a_workload(seed)

    begun: list[object] = []
    with pytest.raises(ConfigError, match="workload 'w', seed 4: request a grows to 700 tokens"):
        compare(["fcfs"], {"w": grows}, COST, 5, lambda *run: begun.append(run), **OPTIONS)
    assert begun == []


def test_a_workload_without_requests_is_refused():
    with pytest.raises(ConfigError, match="workload 'w', seed 0: it has no requests"):
        compare(["fcfs"], {"w": lambda seed: []}, COST, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs must be a whole number"),
        ({"pages": 3}, "no option pages; there are max_model_len"),
        ({"num_pages": 2}, "2 pages of 16 tokens do not hold one sequence of 600"),
        ({"num_replicas": 0}, "num_replicas must be a whole number"),
    ],
)
def test_options_that_cannot_be_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        compare(["fcfs"], {"w": a_workload}, COST, 1, **OPTIONS | options)


def test_a_trace_is_served_once_and_says_nothing_of_chance():
    """The same requests five times are no five observations."""
    trace, heard = from_trace(TRACES / "burstgpt.csv"), []
    policies = {"fcfs": Fcfs(), "shortest": ShortestFirst(chunk=64)}
    found = compare(policies, {"t": lambda seed: trace}, COST, 5, lambda *run: heard.append(run))

    assert found.num_seeds("t") == 1 and len(heard) == 2
    difference = found.difference("t", "shortest", "tpot_p99")
    assert difference.mean != 0 and math.isnan(difference.error) and not difference.is_different


def test_seeds_go_on_from_the_first_one():
    whole = compare(["fcfs"], {"w": a_workload}, COST, 4, **OPTIONS).found["w", "fcfs"]
    rest = compare(["fcfs"], {"w": a_workload}, COST, 2, first_seed=2, **OPTIONS).found["w", "fcfs"]
    assert whole["ttft_mean"][2:] == rest["ttft_mean"]


def test_policies_are_compared_under_routers():
    class First(Router):
        def route(self, replicas, request):
            return 0

    routers = {"in turn": RoundRobin(), "all to one": First()}
    found = compare(
        ["fcfs", "shortest"], {"w": a_workload}, COST, 1, routers=routers, num_replicas=4, **OPTIONS
    )

    assert found.policies == tuple(f"{a} @ {b}" for b in routers for a in ("fcfs", "shortest"))
    alone = compare(["fcfs"], {"w": a_workload}, COST, 1, **OPTIONS)
    assert found.found["w", "fcfs @ all to one"] == alone.found["w", "fcfs"]
    assert found.difference("w", "fcfs @ all to one", "ttft_mean").mean > 1


def test_clients_are_measured_each_alone():
    """A greedy one keeps a polite one waiting, until their shares are fair."""

    def both(seed: int):
        greedy = Tenant("greedy", 30.0, 20, 20, begins=seed, ends=5.0)
        return tenants(Tenant("polite", 1.0, 20, 20, begins=3.0), greedy, seconds=8.0, seed=seed)

    workloads = {"both": both, "one": a_workload}
    found = compare(["fcfs", "fair_share"], workloads, COST, 2, **OPTIONS)

    waits = found.difference("both", "fair_share", "ttft_max@polite")
    assert (
        waits.mean < -0.5 and waits.mean < found.difference("both", "fair_share", "ttft_max").mean
    )
    [first, _] = found.values("both", "fcfs", "num_requests@polite")
    assert first == sum(each.terms.client == "polite" for each in both(0))
    assert math.isnan(found.estimate("one", "fcfs", "ttft_max@polite").mean)
    assert "| nan |" in found.as_table(["ttft_max@polite"])


def test_the_longest_wait_is_in_the_summary():
    """One who starves among hundreds is in no quantile."""
    short = poisson(60.0, 200, prompt_len=20, output_len=5)
    long = TimedRequest("long", short[3].arrival, (1,) * 500, 5)
    result = simulate(ShortestFirst(aging=0), [*short[:4], long, *short[4:]], COST, **OPTIONS)
    found = result.summary()

    for name in ("ttft", "tpot", "latency"):
        assert found[f"{name}_max"] == result.requests[name].max()
    assert found["ttft_max"] > 1.8 * found["ttft_p99"]


@pytest.mark.parametrize(
    "name", ["speed", "ttft_p99@", "padding@polite", "speed@polite", "@polite"]
)
def test_a_measure_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match=f"no measure {name}; there are num_requests"):
        check_measures(["ttft_p99", "goodput@polite", name])
