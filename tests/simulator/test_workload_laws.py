"""Laws of lengths: their means, spreads and tails."""

import math
import statistics
from collections import Counter
from random import Random

import pytest

from jpaged.errors import ConfigError
from jpaged.simulator.workload import (
    Empirical,
    Fixed,
    Geometric,
    Lengths,
    Pauses,
    Uniform,
    Zipf,
)
from jpaged.simulator.workload.laws import as_law

NUM = 20_000


def draws(law, seed: int = 0, num: int = NUM) -> list:
    rng = Random(seed)
    return [law.draw(rng) for _ in range(num)]


@pytest.mark.parametrize(
    "law",
    [Fixed(7), Uniform(10, 30), Geometric(4.0), Zipf(500, 0.8), Empirical((3, 3, 9))],
    ids=lambda law: type(law).__name__,
)
def test_each_draw_has_the_mean_that_is_said_and_takes_one_number(law):
    found = draws(law)
    error = statistics.pstdev(found) / math.sqrt(NUM)
    assert abs(statistics.fmean(found) - law.mean) <= 4 * error
    assert all(type(each) is int and each >= 1 for each in found)

    rng, other = Random(5), Random(5)
    law.draw(rng)
    other.random()
    assert rng.random() == other.random()


def test_uniform_lengths_reach_both_ends_and_are_alike():
    counts = Counter(draws(Uniform(3, 6)))
    assert set(counts) == {3, 4, 5, 6}
    assert all(abs(count - NUM / 4) < 5 * math.sqrt(NUM * 3 / 16) for count in counts.values())


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.8])
def test_zipf_lengths_have_the_tail_of_a_power_law(exponent):
    """The slope of counts over numbers, both as logarithms, by least squares."""
    counts = Counter(draws(Zipf(1000, exponent), num=100_000))
    points = [(math.log(n), math.log(counts[n])) for n in (1, 2, 4, 8, 16, 32)]
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    assert slope == pytest.approx(-exponent, abs=0.08)


def test_zipf_lengths_stay_within_their_bounds():
    found = draws(Zipf(most=40, exponent=0.5, least=30))
    assert (min(found), max(found)) == (30, 40)


def test_geometric_numbers_forget_how_far_they_have_come():
    found = draws(Geometric(5.0))
    for reached in (1, 4):
        left = [each - reached for each in found if each > reached]
        assert statistics.fmean(left) == pytest.approx(5.0, rel=0.05)
    assert set(draws(Geometric(1.0), num=100)) == {1}


def test_empirical_lengths_come_as_often_as_they_were_seen():
    counts = Counter(draws(Empirical((5, 5, 5, 100))))
    assert counts[5] / NUM == pytest.approx(0.75, abs=0.02)


def test_pauses_have_their_mean_and_log_spread():
    found = draws(Pauses(8.0, 0.5))
    logs = [math.log(each) for each in found]
    assert statistics.fmean(found) == pytest.approx(8.0, rel=0.02)
    assert statistics.stdev(logs) == pytest.approx(0.5, rel=0.03)
    assert set(draws(Pauses(3.0, 0.0), num=50)) == {3.0}
    assert set(draws(Pauses(0.0), num=50)) == {0.0}


def test_numbers_lists_and_laws_are_laws():
    assert as_law("n", 5) == Fixed(5)
    assert as_law("n", [1, 2]) == Empirical((1, 2))
    assert as_law("n", law := Lengths(10, 1.0, 100)) is law


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fixed(0), "value=0"),
        (lambda: Uniform(5, 4), "least=5 is above most=4"),
        (lambda: Uniform(0, 4), "least=0"),
        (lambda: Geometric(0.5), "1 or more, not 0.5"),
        (lambda: Zipf(10, math.nan), "not nan"),
        (lambda: Zipf(10, -1.0), "not -1"),
        (lambda: Empirical(()), "no values"),
        (lambda: Empirical((4, 0)), r"values\[1\]=0"),
        (lambda: Pauses(-1.0), "mean=-1"),
        (lambda: Pauses(math.inf), "mean=inf"),
        (lambda: as_law("prompt_len", 0), "prompt_len=0"),
        (lambda: as_law("prompt_len", 2.5), "prompt_len is a number, a list"),  # type: ignore
        (lambda: as_law("prompt_len", "12"), "not '12'"),  # type: ignore
        (lambda: as_law("prompt_len", True), "prompt_len=True"),
    ],
)
def test_laws_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
