"""Open loops: the laws of gaps, and that each part of a workload has chance of its own."""

import math
import statistics
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from jpaged.errors import ConfigError
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, simulate
from jpaged.simulator.workload import (
    Geometric,
    PrefixTree,
    gamma,
    gamma_gap,
    poisson,
    poisson_gap,
    requests,
    weibull,
)

NUM = 8000
MADE = {
    "poisson": lambda **how: poisson(**{"rate": 4.0, "num_requests": 40} | how),
    "gamma": lambda **how: gamma(**{"rate": 4.0, "cv": 3.0, "num_requests": 40} | how),
    "weibull": lambda **how: weibull(**{"rate": 4.0, "shape": 0.5, "num_requests": 40} | how),
}
each_kind = pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())


def gaps(workload) -> list[float]:
    return [after - before for before, after in pairwise([0.0, *(r.arrival for r in workload)])]


def contents(workload) -> list:
    return [(each.name, each.prompt, each.num_output) for each in workload]


def cv(values) -> float:
    return statistics.stdev(values) / statistics.fmean(values)


@pytest.mark.parametrize(
    ("make", "expected_cv"),
    [
        (lambda: poisson(4.0, NUM, 1, 1), 1.0),
        (lambda: gamma(4.0, 0.5, NUM, 1, 1), 0.5),
        (lambda: gamma(4.0, 3.0, NUM, 1, 1), 3.0),
        (lambda: weibull(4.0, 1.0, NUM, 1, 1), 1.0),
        # by the moments: Var / mean² = Γ(1 + 2/k) / Γ(1 + 1/k)² - 1, for k = 1/2: 24 / 4 - 1
        (lambda: weibull(4.0, 0.5, NUM, 1, 1), math.sqrt(5)),
    ],
    ids=["poisson", "gamma calm", "gamma bursty", "weibull of 1", "weibull bursty"],
)
def test_gaps_have_the_rate_and_the_variation_that_was_asked_for(make, expected_cv):
    found = gaps(make())
    assert min(found) >= 0
    assert statistics.fmean(found) == pytest.approx(1 / 4, rel=4 * expected_cv / math.sqrt(NUM))
    assert cv(found) == pytest.approx(expected_cv, rel=0.12)


def test_weibull_gaps_have_its_tail():
    """P(gap > t) = exp(-(t / scale)^k), where scale = 1 / (rate Γ(1 + 1/k)) = 1/8 for k = 1/2."""
    found = gaps(weibull(4.0, 0.5, NUM, 1, 1))
    for time in (1 / 8, 1 / 2, 9 / 8):
        longer = sum(gap > time for gap in found) / NUM
        assert longer == pytest.approx(math.exp(-math.sqrt(8 * time)), abs=0.02)


def test_poisson_counts_vary_as_much_as_their_mean():
    arrivals = [each.arrival for each in poisson(10.0, NUM, 1, 1)]
    counts = [0] * int(arrivals[-1])
    for each in arrivals:
        if each < len(counts):
            counts[int(each)] += 1
    assert statistics.variance(counts) / statistics.fmean(counts) == pytest.approx(1.0, abs=0.2)


@each_kind
def test_a_seed_names_a_workload(make):
    assert make(seed=1) == make(seed=1)
    assert [each.arrival for each in make(seed=1)] != [each.arrival for each in make(seed=2)]
    assert contents(make(seed=1)) != contents(make(seed=2))


@each_kind
def test_the_rate_moves_the_same_requests_closer_together(make):
    slow, fast = make(rate=1.0), make(rate=8.0)
    assert contents(slow) == contents(fast)
    assert [each.arrival for each in slow] == pytest.approx([8 * each.arrival for each in fast])


@each_kind
def test_a_longer_workload_begins_as_the_shorter_one_does(make):
    tree = PrefixTree((2, 3), (20, 30))
    assert make(num_requests=90, tree=tree)[:40] == make(num_requests=40, tree=tree)


def test_another_burstiness_changes_gaps_only():
    assert (
        contents(gamma(4.0, 0.5, 40)) == contents(gamma(4.0, 5.0, 40)) == contents(poisson(1, 40))
    )


def test_other_prompts_change_neither_arrivals_nor_outputs():
    for one, other in zip(poisson(1.0, 40), poisson(1.0, 40, Geometric(9.0)), strict=True):
        assert (one.arrival, one.num_output) == (other.arrival, other.num_output)
        assert len(one.prompt) != len(other.prompt) or len(one.prompt) < 60


def test_clients_of_one_seed_are_independent():
    one, other = (poisson(1.0, 40, terms=Terms(client=name)) for name in ("a", "b"))
    assert [each.arrival for each in one] != [each.arrival for each in other]
    assert [len(each.prompt) for each in one] != [len(each.prompt) for each in other]
    assert not {each.prompt for each in one} & {each.prompt for each in other}


def test_no_two_prompts_begin_alike():
    workload = poisson(1.0, 3000, prompt_len=4)
    assert len({tuple(each.prompt) for each in workload}) == 3000


def test_terms_priority_and_params_are_those_of_all():
    asked = {"terms": Terms("me", ttft=1.0), "priority": 3, "params": SamplingParams(n=2)}
    plain, special = poisson(1.0, 5, terms=Terms("me")), poisson(1.0, 5, **asked)
    assert [replace(each, **asked) for each in plain] == special


def test_lengths_may_be_numbers_and_lists():
    workload = poisson(1.0, 60, prompt_len=12, output_len=[3, 5])
    assert {len(each.prompt) for each in workload} == {12}
    assert {each.num_output for each in workload} == {3, 5}


def test_an_endless_workload_begins_as_the_list_does_and_can_be_simulated():
    endless = requests(gamma_gap(5.0, 2.0), 20, 4)
    assert list(islice(endless, 30)) == gamma(5.0, 2.0, 30, 20, 4)
    result = simulate("fcfs", islice(requests(poisson_gap(5.0), 20, 4), 30), Constant())
    assert sorted(each.request_id for each in result.ended) == sorted(map(str, range(30)))


def test_any_law_of_gaps_will_do():
    assert [r.arrival for r in islice(requests(lambda rng: 0.5, 1, 1), 4)] == [0.5, 1.0, 1.5, 2.0]


class Broken:
    def draw(self, rng):
        return 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: poisson(0.0, 5), "rate=0"),
        (lambda: poisson(math.nan, 5), "rate=nan"),
        (lambda: poisson("4", 5), "rate='4'"),  # type: ignore
        (lambda: gamma(1.0, -1.0, 5), "cv=-1"),
        (lambda: weibull(math.inf, 0.0, 5), "rate=inf, shape=0"),
        (lambda: poisson(1.0, 0), "num_requests=0"),
        (lambda: poisson(1.0, 2.5), "num_requests=2.5"),  # type: ignore
        (lambda: poisson(1.0, 5, prompt_len=-3), "prompt_len=-3"),
        (lambda: poisson(1.0, 5, output_len=Broken()), "output_len=0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
