"""Searching for parameters: the same requests for every trial, others for the best."""

import math
from pathlib import Path
from typing import Any

import pytest

from jpaged import ConfigError
from jpaged.policies import Fcfs, Sarathi
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant
from jpaged.simulator.compare import compare
from jpaged.simulator.search import search
from jpaged.simulator.spaces import Choice, Range
from jpaged.simulator.trials import Search
from jpaged.simulator.workload import from_trace, mix, poisson

COST = Constant(step=0.02, token=2e-4)
OPTIONS: Any = {"max_num_seqs": 8, "max_model_len": 600}
TRACES = Path(__file__).parent / "traces"


class Narrow(Fcfs):
    """So many run together: a wide step takes longer, a narrow one keeps others waiting."""

    def __init__(self, width: int = 2, unused: float = 1.0):
        if width < 1:
            raise ConfigError(f"width={width} must be at least 1")
        self.width = width

    def propose(self, view):
        yield from list(super().propose(view))[: self.width]


class Broken(Fcfs):
    def __init__(self, chunk: int = 64):
        self.chunk = chunk

    def propose(self, view):
        if self.chunk > 100:
            raise ZeroDivisionError("no such chunk")
        return super().propose(view)


def a_workload(seed: int):
    return poisson(6.0, 25, prompt_len=[20, 20, 300], output_len=[4, 4, 30], seed=seed)


def a_search(make: Any = Narrow, space: Any = None, **more: Any) -> Search:
    space = space or {"width": Range(1, 8)}
    given: Any = (
        {"workloads": {"w": a_workload}, "num_trials": 10, "num_held_out": 2} | OPTIONS | more
    )
    return search(make, space, given.pop("workloads"), COST, **given)


@pytest.mark.parametrize("measure", ["ttft_mean", "tokens_per_second", "tpot_p99"])
def test_it_finds_what_trying_all_of_them_finds(measure):
    widths = {f"{width}": Narrow(width) for width in (1, 2, 3, 5, 8)}
    all_of_them = compare(widths, {"w": a_workload}, COST, 3, **OPTIONS)
    means = {
        width: all_of_them.estimate("w", width, measure).mean for width in all_of_them.policies
    }
    assert len(set(means.values())) > 2
    best = (max if measure == "tokens_per_second" else min)(means, key=means.__getitem__)

    found = a_search(space={"width": Choice((1, 2, 3, 5, 8))}, measure=measure, num_trials=25)

    assert found.best.mean("w", measure) == pytest.approx(means[best])


def test_numbers_are_drawn_from_their_ranges():
    found = a_search(
        space={"width": Range(2, 64, is_log=True), "unused": Range(0.5, 2.5)}, num_trials=30
    )
    widths: Any = [trial.parameters["width"] for trial in found.trials[1:]]
    others: Any = [trial.parameters["unused"] for trial in found.trials[1:]]

    assert all(type(width) is int and 2 <= width <= 64 for width in widths)
    assert all(type(other) is float and 0.5 <= other <= 2.5 for other in others)
    assert min(widths) < 8 < 32 < max(widths)


def test_the_same_seed_finds_the_same():
    first, second = a_search(seed=1), a_search(seed=1)

    assert first.trials == second.trials and first.held_out == second.held_out
    assert [each.parameters for each in a_search(seed=2).trials] != [
        each.parameters for each in first.trials
    ]


def test_the_defaults_come_first_and_are_what_the_others_are_measured_by():
    found = a_search(measure="ttft_mean")
    default, *others = found.trials

    assert default.parameters == {"width": 2} and default.score == 1.0 and default.number == 0
    for trial in others:
        if not trial.is_pruned:
            ratio = trial.mean("w", "ttft_mean") / default.mean("w", "ttft_mean")
            assert trial.score == pytest.approx(ratio)
    assert found.best.score == min(each.score for each in found.trials if not each.is_pruned)


def test_over_workloads_the_shares_are_averaged():
    def sparse(seed: int):
        return poisson(0.5, 10, prompt_len=20, output_len=10, seed=seed)

    found = a_search(workloads={"dense": a_workload, "sparse": sparse}, constraints=["seconds<1e9"])
    default = found.trials[0]

    for trial in found.trials:
        shares = [
            trial.mean(name, found.measure) / default.mean(name, found.measure)
            for name in ("dense", "sparse")
        ]
        assert trial.score == pytest.approx(sum(shares) / 2)


def test_the_best_is_measured_on_seeds_that_no_trial_saw():
    seen = []

    def spied(seed: int):
        seen.append(seed)
        return a_workload(seed)

    found = a_search(workloads={"w": spied}, num_seeds=2, num_held_out=3)

    assert seen == [0, 1, 2, 3, 4, 2, 3, 4]  # looked at first, then served
    policies = {"default": Narrow(), "best": Narrow(**found.best_parameters)}
    expected = compare(policies, {"w": a_workload}, COST, 3, first_seed=2, **OPTIONS)
    assert found.held_out == expected
    assert found.held_out.difference("w", "best", "latency_mean").error > 0


def test_other_workloads_may_be_held_out():
    trace = from_trace(TRACES / "azure_2023.csv", max_len=600, too_long="cut")
    found = a_search(
        workloads={"azure": lambda seed: trace}, held_out={"w": a_workload}, num_trials=2
    )

    assert found.workloads == ("azure",) and found.held_out.workloads == ("w",)
    assert {trial.num_seeds for trial in found.trials} == {1}, "it is the same for all seeds"


def test_nothing_of_a_trace_is_left_to_hold_out():
    trace = from_trace(TRACES / "azure_2023.csv", max_len=600, too_long="cut")
    with pytest.raises(ConfigError, match="'t' is the same for every seed: .*held_out"):
        a_search(workloads={"t": lambda seed: trace})


def test_constraints_are_kept():
    free = a_search(measure="ttft_mean")
    limit = 0.5 * sum(trial.mean("w", "tpot_p99") for trial in (free.best, free.trials[0]))
    assert free.best.mean("w", "tpot_p99") > limit

    bound = a_search(measure="ttft_mean", constraints=[f"tpot_p99<{limit}"], num_trials=20)

    assert bound.best.excess == 0 and bound.best.mean("w", "tpot_p99") < limit
    over = [trial for trial in bound.trials if trial.state == "over"]
    assert over and all(trial.mean("w", "tpot_p99") >= limit for trial in over)
    assert min(trial.score for trial in over) < bound.best.score
    assert not any(trial.is_pruned for trial in bound.trials)


def test_if_none_keeps_a_constraint_the_best_comes_closest():
    found = a_search(measure="ttft_mean", constraints=["tpot_p99<1e-6", "num_refused<1"])

    assert found.best.excess == min(trial.excess for trial in found.trials) > 0
    assert {trial.state for trial in found.trials} == {"over"}


def test_hopeless_trials_are_given_up():
    found = a_search(measure="ttft_mean", num_trials=30, space={"width": Range(1, 64)})
    pruned = [trial for trial in found.trials if trial.is_pruned]

    assert pruned and all(trial.num_seeds < 3 for trial in pruned)
    scores = sorted(trial.score for trial in found.trials if not trial.is_pruned)
    assert all(trial.score >= scores[len(scores) // 3] for trial in pruned)
    assert not found.best.is_pruned


def test_nothing_is_served_twice():
    made = []

    def make(width: int = 2):
        made.append(width)
        return Narrow(width)

    found = a_search(make, {"width": Choice((1, 2))}, num_trials=12)

    num_policies = 2 + 2 * 3 + 2  # to look at the ends; three seeds of two; two for the comparison
    assert len(found.trials) == 13 and len(made) == num_policies


def test_what_is_tried_is_a_table():
    found = a_search(constraints=["tpot_p99<10"], num_trials=3)
    table: Any = found.table

    ends = ["score", "excess", "num_seeds", "state"]
    assert list(table) == ["trial", "width", "latency_mean", "tpot_p99", *ends]
    assert table["state"].tolist()[0] == "default" and len(table) == 4
    assert table["latency_mean"][0] == found.trials[0].mean("w", "latency_mean")


def test_a_best_at_an_end_of_its_range_is_told():
    """What is held back needlessly is best where it is held back least."""
    found = a_search(space={"width": Range(2, 4), "unused": Range(0.5, 9.0)}, num_trials=15)

    assert found.best.parameters["width"] == 4
    assert found.at_ends["width"] == Range(2, 4)
    assert a_search(space={"width": Choice((2, 4))}).at_ends == {}


@pytest.mark.parametrize(
    ("domain", "ends", "inside"),
    [
        (Range(1, 300), (1, 300), (2, 299)),
        (Range(0.0, 100.0), (0.0, 0.9, 99.1, 100.0), (1.1, 98.9)),
        (Range(1.0, 100.0, is_log=True), (1.0, 1.04, 96.0), (1.06, 95.0)),
    ],
)
def test_ends_are_the_last_whole_numbers_and_the_last_hundredth_of_others(domain, ends, inside):
    assert all(domain.is_at_end(value) for value in ends)
    assert not any(domain.is_at_end(value) for value in inside)


def test_one_may_search_for_what_serves_one_client_best():
    def both(seed: int):
        hurried = poisson(3.0, 12, 20, 4, seed, terms=Terms(client="hurried"))
        return mix(hurried, poisson(3.0, 12, 300, 30, seed, terms=Terms(client="other")))

    bounds = ["goodput@other>0.01"]
    found = a_search(workloads={"w": both}, measure="ttft_mean@hurried", constraints=bounds)

    assert found.best.score < 1 and found.best.excess == 0
    values = found.held_out.values("w", "best", "ttft_mean@hurried")
    assert all(map(math.isfinite, values))
    with pytest.raises(ConfigError, match="ttft_mean@nobody is 0 with the defaults, or has no val"):
        a_search(workloads={"w": both}, measure="ttft_mean@nobody")


def test_a_policy_that_raises_ends_the_search():
    with pytest.raises(ConfigError, match="Broken raised ZeroDivisionError: no such chunk"):
        a_search(Broken, {"chunk": Range(101, 200)})


def test_a_measure_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="hit_rate is 0 with the defaults, or has no value"):
        a_search(measure="hit_rate", enable_prefix_caching=False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"make": "sarahti"}, "did you mean 'sarathi'"),
        ({"make": "sarathi"}, r"sarathi has no parameter width; it takes chunk \(default 512\)"),
        ({"make": "fcfs"}, "fcfs has no parameter width; it takes none"),
        ({"make": Sarathi(32)}, "pass the class, Sarathi, not one of it"),
        ({"make": lambda width, other: Narrow()}, "no default for width, other"),
        ({"space": {"widht": Range(1, 2)}}, r"did you mean 'width'\?.*width \(default 2\)"),
        ({"space": {"width": Range(0, 9)}}, "Narrow with width=0: width=0 must be at least 1"),
        ({"space": {"width": Choice((1, "two"))}}, "width='two': '<' not supported"),
        ({"measure": "speed"}, "no measure speed; there are num_requests"),
        ({"constraints": ["tpot_p99"]}, "'tpot_p99' is no constraint; write one like"),
        ({"constraints": ["tpot_p99<fast"]}, "'tpot_p99<fast' is no constraint"),
        ({"constraints": ["speed<3"]}, "no measure speed"),
        ({"num_trials": 0}, "at least 1 of each: .*'num_trials': 0"),
        ({"num_held_out": 0}, "at least 1 of each"),
        ({"workloads": {}}, "needs a workload"),
        ({"max_num_seqs": 0}, "max_num_seqs must be a whole number"),
        ({"pages": 3}, "no option pages"),
        (
            {"max_model_len": 100},
            "workload 'w', seed 0: request .* grows to .* raise max_model_len",
        ),
    ],
)
def test_what_cannot_be_searched_is_said_before_the_first_run(more, says):
    with pytest.raises(ConfigError, match=says):
        a_search(**more, on_trial=lambda trial: pytest.fail("begun"))


def test_an_empty_space_is_refused():
    with pytest.raises(ConfigError, match=r"nothing to search; Narrow takes width \(default 2\)"):
        search(Narrow, {}, {"w": a_workload}, COST)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Range(9, 3), "a range goes up; 9 is not below 3"),
        (lambda: Range(3, 3), "3 is not below 3"),
        (lambda: Range(0, 3, is_log=True), "begins above 0, not at 0"),
        (lambda: Range(1, math.inf), "bounds of a range are numbers, not 1, inf"),
        (lambda: Range(1, "much"), "bounds of a range are numbers"),  # pyright: ignore
        (lambda: Choice((1,)), "between two or more different values, not 1"),
        (lambda: Choice(("a", "a")), "between two or more different values"),
        (lambda: Choice(([], ())), "numbers, words, True, False and None"),  # pyright: ignore
    ],
)
def test_a_space_that_is_none_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
