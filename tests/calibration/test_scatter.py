"""The log-normal law between bounds, against draws from it."""

from random import Random

import numpy as np
import pytest

from jpaged.calibration.scatter import mean_within, spreads_of, variance_within

SPREAD = 0.5
SPANS = [(0.0, 0.7), (1.2, 3.0), (0.5, 1.1), (0.0, 0.3), (2.0, 9.0)]


@pytest.fixture(scope="module")
def shares() -> np.ndarray:
    rng = Random(2)
    return np.array([rng.lognormvariate(-(SPREAD**2) / 2, SPREAD) for _ in range(400_000)])


@pytest.mark.parametrize("low, high", SPANS)
def test_what_is_likely_between_bounds_is_what_lies_there_on_average(shares, low, high):
    inside = shares[(low <= shares) & (shares <= high)]
    bounds = np.array([low]), np.array([high]), np.array([SPREAD])

    assert mean_within(*bounds)[0] == pytest.approx(inside.mean(), rel=0.02)
    deviation = np.log(inside) + SPREAD**2 / 2
    assert variance_within(*bounds)[0] == pytest.approx((deviation**2).mean(), rel=0.02)


def test_what_is_known_exactly_stays_what_it_is():
    exact = np.array([0.5, 1.0, 30.0])

    assert mean_within(exact, exact, np.full(3, 0.1)) == pytest.approx(exact)
    wanted = (np.log(exact) + 0.1**2 / 2) ** 2
    assert variance_within(exact, exact, np.full(3, 0.1)) == pytest.approx(wanted)


def test_beyond_the_law_the_nearer_bound_counts():
    low, high = np.array([0.0, 50.0]), np.array([1e-6, 60.0])

    assert mean_within(low, high, np.full(2, 0.1)) == pytest.approx([1e-6, 50.0])


def test_a_group_of_few_is_as_scattered_as_all():
    variances = np.array([0.04] * 1000 + [0.36] * 1000 + [4.0])
    groups = np.array([0] * 1000 + [1] * 1000 + [2])

    found = spreads_of(variances, groups, 4)

    assert found[:2] == pytest.approx([0.2, 0.6], rel=0.05)
    assert found[3] == pytest.approx(np.sqrt(variances.mean()), rel=1e-6)  # of nobody at all
    assert 0.45 < found[2] < 0.8
