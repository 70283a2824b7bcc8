"""Predictions that are right, because they are fate."""

from dataclasses import replace
from itertools import islice

from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, simulate
from jpaged.simulator.lengths import ALPACA
from jpaged.simulator.workload import TimedRequest, foretold, generate


def test_every_turn_is_told_what_it_will_say_and_nothing_else_changes():
    second = TimedRequest("b", 1.0, (1, 2), num_output=9, terms=Terms(client="x", ttft=2.0))
    first = TimedRequest("a", 0.5, (3,), num_output=4, then=second)

    (told,) = foretold([first])

    assert [turn.terms.predicted_tokens for turn in told.turns] == [4, 9]
    assert [turn.terms.client for turn in told.turns] == ["", "x"]
    assert replace(told, terms=first.terms, then=second) == first


def test_a_workload_without_an_end_is_told_as_it_comes():
    def endless():
        while True:
            yield TimedRequest("a", 0.0, (1,), num_output=3)

    assert all(each.terms.predicted_tokens == 3 for each in islice(foretold(endless()), 5))


def test_what_was_foretold_comes_true():
    ended = simulate("sjf", foretold(generate(ALPACA, 20, 5.0, seed=1)), Constant(0.01)).ended

    assert len(ended) == 20
    assert all(each.num_output == each.predicted_tokens for each in ended)
