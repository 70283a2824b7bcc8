"""Figures and verdicts on made-up runs."""

import heapq
import re
from random import Random

import numpy as np
import pytest

from jpaged.calibration.accuracy import Comparison, figures, is_saturated, quantile
from jpaged.cli.validate import verdict
from jpaged.scheduling.events import RequestRecord


def a_request(arrival: float, first: float, last: float, num_output: int) -> RequestRecord:
    return RequestRecord(
        "", 0, "", "", 0, arrival, arrival, first, last, 1, 0, num_output, 0, "length"
    )


def a_run(arrivals: list[float], stays: list[float]) -> list[RequestRecord]:
    return [
        a_request(arrival, arrival + stay / 2, arrival + stay, 2)
        for arrival, stay in zip(arrivals, stays, strict=True)
    ]


def a_queue(rate: float, count: int = 600, servers: int = 8, seed: int = 0) -> list[RequestRecord]:
    """Poisson arrivals at so many servers, each of which serves one a second on average."""
    rng, now, free = Random(seed), 0.0, [0.0] * servers
    found = []
    for _ in range(count):
        now += rng.expovariate(rate)
        start = max(now, heapq.heappop(free))
        end = start + rng.expovariate(1.0)
        heapq.heappush(free, end)
        found.append(a_request(now, start, end, 2))
    return found


def test_figures_by_hand():
    records = [
        a_request(1.0, 1.5, 3.5, 5),
        a_request(2.0, 3.0, 3.0, 1),
        a_request(3.0, 5.0, 9.0, 3),
    ]

    told = figures(records)

    assert told["ttft_mean"] == pytest.approx((0.5 + 1 + 2) / 3)
    assert told["ttft_p50"] == 1.0
    assert told["tpot_mean"] == pytest.approx((0.5 + 2.0) / 2)  # a single token has no second one
    assert told["latency_p99"] == pytest.approx(2.5 + 0.98 * (6.0 - 2.5))
    assert figures([]) == {}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_numpys(share):
    rng = Random(0)
    values = sorted(rng.random() for _ in range(37))

    assert quantile(values, share) == pytest.approx(np.quantile(values, share))
    assert quantile([3.0], share) == 3.0


def test_errors_are_relative_to_the_mean_of_all_runs():
    comparison = Comparison(0.5, 1.0, 10, ({"x": 0.9}, {"x": 1.1}), {"x": 1.05}, False)

    assert comparison.error("x") == pytest.approx(0.05)
    assert comparison.floor("x") == pytest.approx(0.1)


def a_comparison(told: dict[str, float], *runs: dict[str, float], **more) -> Comparison:
    return Comparison(0.5, 1.0, 10, runs, told, **{"is_saturated": False, **more})


def test_medians_are_held_to_less_than_99th_percentiles_and_means_to_nothing():
    told = {"ttft_mean": 1.5, "ttft_p50": 1.06, "ttft_p99": 0.91, "tpot_p50": 0.96, "tpot_p99": 1.2}
    comparison = a_comparison(told, dict.fromkeys(told, 1.0))

    assert comparison.beyond == ["ttft_p50", "tpot_p99"]


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        (a_comparison({"x_p50": 1.04}, {"x_p50": 1.0}), "=> good"),
        (a_comparison({"x_p50": 3.0}, {"x_p50": 1.0}, is_saturated=True), "=> saturated"),
        (a_comparison({"x_p50": 1.3}, {"x_p50": 1.0}), r"POOR.* x_p50 \+30.0%; `--repeats 3`"),
        (a_comparison({"x_p50": 1.3}, {"x_p50": 1.0}, slowness=0.8), "POOR.* calibrate again"),
        (a_comparison({"x_p50": 1.1}, {"x_p50": 0.9}, {"x_p50": 1.1}), "POOR.* far from itself"),
        (a_comparison({"x_p50": 1.3}, {"x_p50": 0.9}, {"x_p50": 1.1}), "POOR.* for longer"),
    ],
)
def test_a_verdict_says_what_to_do(comparison, said):
    assert re.match(said if said.startswith("=>") else f"=> {said}", verdict(comparison))


def test_more_arrivals_than_can_be_served_saturate():
    arrivals = [float(i) for i in range(300)]

    # one server of 1.25 seconds each: of five that arrive, four are served
    assert is_saturated([a_run(arrivals, [1.25 + 0.25 * i for i in range(300)])])
    assert all(is_saturated([a_queue(rate=12.0, seed=seed)]) for seed in range(5))


def test_an_engine_that_keeps_up_does_not():
    arrivals = [float(i) for i in range(300)]

    assert not is_saturated([a_run(arrivals, [40.0] * 300)])  # many are there, and no more come
    assert not is_saturated([a_run([0.0] * 300, [5.0] * 300)])
    assert not any(is_saturated([a_queue(rate=4.0, seed=seed)]) for seed in range(20))
    assert not is_saturated([]) and not is_saturated([[]])


def test_short_runs_tell_together_what_one_of_them_does_not():
    short = [a_queue(rate=6.5, count=60, seed=seed) for seed in range(40)]
    flagged = [is_saturated([run]) for run in short]

    assert any(flagged) and not is_saturated(short)
    assert is_saturated([a_queue(rate=12.0, count=60, seed=seed) for seed in range(40)])
