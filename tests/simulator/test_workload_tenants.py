"""Several clients: each is what it would be alone."""

from itertools import islice

import pytest

from jpaged.errors import ConfigError
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, simulate
from jpaged.simulator.lengths import ALPACA
from jpaged.simulator.workload import (
    Tenant,
    agents,
    generate,
    merge,
    mix,
    poisson,
    poisson_gap,
    requests,
    sessions,
    tenants,
)


def of(client: str, workload) -> list:
    return [each for each in workload if each.terms.client == client]


def arrivals(workload) -> list[float]:
    return [each.arrival for each in workload]


def test_clients_are_merged_by_arrival_and_named():
    workload = tenants(Tenant("greedy", 8.0), Tenant("polite", 1.0), seconds=200)
    assert arrivals(workload) == sorted(arrivals(workload)) and workload[-1].arrival < 200
    # Poisson counts: four deviations around 1600 and 200
    assert 1440 < len(of("greedy", workload)) < 1760
    assert 143 < len(of("polite", workload)) < 257
    assert len({each.name for each in workload}) == len(workload)


def test_changing_one_client_leaves_the_others_alone():
    polite = Tenant("polite", 1.0)
    alone = tenants(polite, seconds=50)
    for greedy in (Tenant("greedy", 2.0), Tenant("greedy", 20.0, 400, 7, cv=5.0)):
        assert of("polite", tenants(greedy, polite, seconds=50)) == alone


def test_more_seconds_begin_as_fewer_do():
    clients = (Tenant("a", 3.0), Tenant("b", 1.0, cv=2.0))
    short, long = (tenants(*clients, seconds=seconds) for seconds in (20, 60))
    assert long[: len(short)] == short and long[len(short)].arrival >= 20


def test_a_client_asks_while_it_is_there():
    late, whole = Tenant("a", 5.0, begins=10.0, ends=20.0), Tenant("a", 5.0)
    workload = tenants(late, seconds=100)
    assert 10 <= workload[0].arrival and workload[-1].arrival < 20
    moved = [each.arrival + 10 for each in tenants(whole, seconds=10)]
    assert arrivals(workload) == pytest.approx(moved)


def test_a_client_keeps_its_promises_and_priority():
    workload = tenants(Tenant("a", 5.0, priority=2, terms=Terms(ttft=0.5)), seconds=5)
    assert {(each.priority, each.terms) for each in workload} == {(2, Terms("a", ttft=0.5))}


def test_a_mix_has_all_of_each_in_order():
    chats, jobs = sessions(1.0, 20, seed=1), poisson(3.0, 60, seed=2)
    workload = mix(chats, jobs)

    assert arrivals(workload) == sorted(arrivals(chats) + arrivals(jobs))
    assert {each.name for each in workload if each.name.startswith("1/")} == {
        f"1/{index}" for index in range(60)
    }
    firsts = [each for each in workload if each.name.startswith("0/")]
    for mixed, alone in zip(firsts, chats, strict=True):
        assert [turn.name for turn in mixed.turns] == [f"0/{turn.name}" for turn in alone.turns]
        assert {turn.terms.session for turn in mixed.turns} == {f"0/{alone.terms.session}"}
        assert [turn.prompt for turn in mixed.turns] == [turn.prompt for turn in alone.turns]


def test_sessions_of_different_workloads_stay_different():
    workload = mix(sessions(1.0, 10, seed=1), agents(1.0, 10, seed=1))
    assert len({each.terms.session for each in workload}) == 20


def test_endless_workloads_are_merged_as_they_are_made():
    endless = merge(
        requests(poisson_gap(2.0), 5, 2, seed=1), requests(poisson_gap(1.0), 5, 2, seed=2)
    )
    assert (
        list(islice(endless, 50))
        == mix(poisson(2.0, 50, 5, 2, seed=1), poisson(1.0, 50, 5, 2, seed=2))[:50]
    )


def test_a_mix_can_be_served():
    workload = mix(generate(ALPACA, 10, 2.0, 0), sessions(1.0, 5, num_turns=2, seed=3))
    result = simulate("fcfs", workload, Constant())
    assert len(result.ended) == sum(1 for first in workload for _ in first.turns) > 15


def test_workloads_with_the_same_prompts_are_refused():
    with pytest.raises(ConfigError, match="workloads 0 and 2 have the same prompts"):
        mix(poisson(1.0, 5), poisson(1.0, 5, seed=1), poisson(9.0, 5))
    assert len(mix(poisson(1.0, 5), poisson(1.0, 5, terms=Terms("b")))) == 10


def test_a_workload_out_of_order_is_refused():
    with pytest.raises(ConfigError, match="workload 1 is not in order .* request 3 arrives at"):
        mix(poisson(1.0, 5, seed=1), poisson(1.0, 5)[::-1])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tenants(Tenant("a", 1.0), Tenant("a", 2.0), seconds=5), "named twice: a"),
        (lambda: tenants(Tenant("a", 1.0), seconds=0), "seconds=0"),
        (lambda: tenants(Tenant("a", 0.0), seconds=5), "rate=0"),
        (lambda: Tenant("a", 1.0, begins=5.0, ends=5.0), "begins at 5.0 and ends at 5.0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
