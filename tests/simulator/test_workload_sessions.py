"""Closed loops: turns follow each other's ends, and prompts follow all that was said."""

import statistics

import pytest

from jpaged.errors import ConfigError
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, simulate
from jpaged.simulator.workload import Fixed, Pauses, agents, sessions


def lengths(workload) -> list[list[tuple[int, int]]]:
    return [[(len(t.prompt), t.num_output) for t in first.turns] for first in workload]


def pauses(workload) -> list[list[float]]:
    return [[turn.arrival for turn in first.turns][1:] for first in workload]


def test_a_turn_arrives_a_pause_after_the_one_before_has_ended():
    workload = sessions(1.0, 20, num_turns=3, prompt_len=20, output_len=5, think=Pauses(7.0))
    result = simulate("fcfs", workload, Constant(step=0.1))

    ended = {each.request_id: each for each in result.ended}
    assert len(ended) == 60
    for first in workload:
        one, two, three = first.turns
        assert ended[one.name].arrival == one.arrival
        for before, after in ((one, two), (two, three)):
            last = ended[before.name].last_token
            assert last is not None
            assert ended[after.name].arrival == pytest.approx(last + after.arrival)


def test_a_prompt_follows_all_that_was_said_and_the_cache_finds_it():
    """To the token: in their last pages are 10 and 4 of 16, a quarter and worth a copy."""
    workload = sessions(1.0, 10, num_turns=3, prompt_len=20, output_len=6)
    result = simulate("fcfs", workload, Constant(step=0.1), num_pages=4000)

    rows = sorted((each.request_id, each.num_prompt, each.num_cached) for each in result.ended)
    assert rows == sorted(
        (f"{session}.{turn}", 26 * turn + 20, 26 * turn)
        for session in range(10)
        for turn in range(3)
    )


def test_a_slow_server_is_asked_later():
    workload = sessions(1.0, 10, num_turns=3, prompt_len=20, output_len=5, think=2.0)
    last = [
        max(each.arrival for each in simulate("fcfs", workload, Constant(step)).ended)
        for step in (0.01, 1.0)
    ]
    assert last[1] > last[0] + 5


def test_turns_belong_to_one_session_and_names_are_everybodys_own():
    workload = sessions(1.0, 30, terms=Terms("me", ttft=2.0))
    turns = [turn for first in workload for turn in first.turns]
    assert len({turn.name for turn in turns}) == len(turns) > 30
    for index, first in enumerate(workload):
        assert {turn.terms for turn in first.turns} == {
            Terms("me", session=f"me/{index}", ttft=2.0)
        }


def test_the_mean_numbers_and_pauses_are_those_of_the_laws():
    workload = sessions(2.0, 3000, prompt_len=1, output_len=1, think=Pauses(5.0, 0.7))
    found = [len(each) for each in lengths(workload)]
    assert statistics.fmean(found) == pytest.approx(4.0, rel=0.06)
    waits = [wait for each in pauses(workload) for wait in each]
    assert statistics.fmean(waits) == pytest.approx(5.0, rel=0.05)
    assert workload[-1].arrival / 3000 == pytest.approx(1 / 2, rel=0.06)


def test_each_part_has_its_own_chance():
    plain = sessions(1.0, 60)
    assert sessions(1.0, 100)[:60] == plain
    assert lengths(sessions(9.0, 60, think=1.0)) == lengths(plain)
    assert pauses(sessions(9.0, 60)) == pauses(plain)
    # fewer turns are the first ones of more
    few, many = (lengths(sessions(1.0, 20, num_turns=n, max_len=10**6)) for n in (2, 5))
    assert few == [turns[:2] for turns in many]


def test_whoever_comes_to_the_end_of_the_context_says_no_more():
    free, bound = (sessions(1.0, 200, num_turns=6, max_len=most) for most in (10**6, 1500))
    for whole, cut in zip(lengths(free), lengths(bound), strict=True):
        assert whole[: len(cut)] == cut
        assert sum(map(sum, cut)) <= 1500
        if len(cut) < 6:
            assert sum(map(sum, whole[: len(cut) + 1])) > 1500
    assert sum(map(len, lengths(bound))) < sum(map(len, lengths(free))) == 1200


def test_agents_begin_with_the_same_tools_and_go_on_with_results():
    workload = agents(1.0, 40, num_calls=3, task_len=50, result_len=Fixed(9), num_shared=100)
    assert len({tuple(first.prompt)[:100] for first in workload}) == 1
    assert len({tuple(first.prompt)[:104] for first in workload}) == 40
    assert {tuple(len(turn.prompt) for turn in first.turns) for first in workload} == {(150, 9, 9)}
    assert len({turn.terms.session for first in workload for turn in first.turns}) == 40


def test_agents_may_share_nothing():
    workload = agents(1.0, 40, task_len=50, num_shared=0)
    assert len({tuple(first.prompt)[:4] for first in workload}) == 40


def test_agents_find_their_tools_and_their_past_in_the_cache():
    workload = agents(0.01, 5, 2, 50, 9, output_len=4, tool=1.0, num_shared=96)
    result = simulate("fcfs", workload, Constant(step=0.01), num_pages=4000)
    found = sorted((each.request_id, each.num_cached) for each in result.ended)
    assert found == sorted(
        [("0.0", 0)]
        + [(f"{index}.0", 96) for index in range(1, 5)]
        + [(f"{index}.1", 96 + 50 + 4) for index in range(5)]
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sessions(1.0, 5, max_len=3), "a first turn has .* max_len is 3: raise it"),
        (lambda: sessions(1.0, 5, max_len=0), "max_len=0"),
        (lambda: sessions(1.0, 5, num_turns=0), "num_turns=0"),
        (lambda: sessions(1.0, 5, think=-1.0), "mean=-1"),
        (lambda: sessions(1.0, 5, think="long"), "think is seconds or Pauses"),  # type: ignore
        (lambda: sessions(-1.0, 5), "rate=-1"),
        (lambda: agents(1.0, 0), "num_programs=0"),
        (lambda: agents(1.0, 5, tool=float("nan")), "mean=nan"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
