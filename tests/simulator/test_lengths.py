"""The laws of lengths against the published means, and against themselves."""

import math
import statistics
from random import Random

import pytest

from jpaged.simulator.lengths import ALPACA, CONTEXT, SHAREGPT, Lengths

LAWS = [SHAREGPT.prompts, SHAREGPT.outputs, ALPACA.prompts, ALPACA.outputs]


def drawn(law: Lengths, count: int = 20_000, seed: int = 0) -> list[int]:
    rng = Random(seed)
    return [law.draw(rng) for _ in range(count)]


@pytest.mark.parametrize(("law", "mean"), list(zip(LAWS, (161, 338, 19, 58), strict=True)))
def test_the_mean_is_the_documented_one(law, mean):
    lengths = drawn(law)
    # four standard errors, and half a token for rounding and the least length of 1
    tolerance = 4 * statistics.stdev(lengths) / math.sqrt(len(lengths)) + 0.5
    assert statistics.mean(lengths) == pytest.approx(mean, abs=tolerance)


@pytest.mark.parametrize("law", LAWS)
def test_half_of_the_lengths_are_below_the_median(law):
    below = sum(length < law.median for length in drawn(law))
    assert below / 20_000 == pytest.approx(0.5, abs=0.02 + 1 / law.median)


def test_the_documented_medians_are_those_of_the_laws():
    assert [round(law.median) for law in LAWS] == [82, 279, 16, 41]


@pytest.mark.parametrize("law", LAWS)
def test_a_prompt_and_its_output_always_fit_the_context(law):
    lengths = drawn(law)
    assert 1 <= min(lengths) <= max(lengths) <= law.most <= CONTEXT // 2


def test_a_cut_far_away_changes_nothing():
    law = Lengths(100, 0.5, 10**9)
    assert law.median == pytest.approx(100 * math.exp(-(0.5**2) / 2))


def test_outputs_differ_as_much_as_the_exponential_law_has_it():
    law = Lengths(58, ALPACA.outputs.log_spread, 10**9)
    lengths = drawn(law)
    assert statistics.stdev(lengths) == pytest.approx(58, rel=0.1)


def test_sharegpt_is_longer_than_alpaca_with_higher_variance():
    # section 6.1 of the paper: 8.4 times longer prompts, 5.8 times longer outputs
    assert SHAREGPT.prompts.mean / ALPACA.prompts.mean == pytest.approx(8.4, rel=0.02)
    assert SHAREGPT.outputs.mean / ALPACA.outputs.mean == pytest.approx(5.8, rel=0.02)
    assert statistics.stdev(drawn(LAWS[0])) > statistics.stdev(drawn(LAWS[2]))
