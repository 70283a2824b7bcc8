"""Beam search without a model, against pages counted by hand and by a tree without a scheduler."""

from random import Random

import pytest
from filler import a_scheduler

from jpaged.scheduling.events import StepRecord
from jpaged.simulator.beams import BeamSearches, Genealogy
from jpaged.simulator.lengths import ALPACA
from jpaged.simulator.replay import replay
from jpaged.simulator.workload import TimedRequest, Workload, generate

PAGE_SIZE = 4


def by_lot(width: int, seed: int) -> Genealogy:
    rng = Random(seed)
    yield (0,) * width
    while True:
        yield tuple(rng.choices(range(width), k=width))


def run(workload: Workload, genealogy, num_pages: int = 400) -> list[StepRecord]:
    scheduler = a_scheduler(num_pages, PAGE_SIZE)
    searches = BeamSearches({each.name: each.num_output for each in workload}, genealogy)
    records = list(replay(workload, scheduler, lambda batch: 1.0, 1000, searches))
    assert not searches.searches
    assert scheduler.pool.num_held == 0
    return records


def pages_of_a_tree(num_prompt: int, num_output: int, genealogy: Genealogy) -> list[int]:
    """Pages held in each step, if a page is a token's place in a tree of beams and each beam
    writes into pages of its own."""
    prompt = tuple(("prompt", i) for i in range(num_prompt))
    beams, held = [prompt], [len(pages_in([prompt]))]
    for step in range(num_output - 1):
        parents = next(genealogy)
        beams = [(*beams[place], (step, index)) for index, place in enumerate(parents)]
        held.append(len(pages_in(beams)))
    return held


def pages_in(beams: list[tuple]) -> set[tuple]:
    """A page is known by all tokens up to its end, as far as its beam has come."""
    return {beam[: end + PAGE_SIZE] for beam in beams for end in range(0, len(beam), PAGE_SIZE)}


@pytest.mark.parametrize("num_prompt", [1, 7, 8, 9])
@pytest.mark.parametrize("width", [2, 3, 6])
def test_beams_hold_what_a_tree_of_tokens_needs(width, num_prompt):
    request = TimedRequest("a", 0.0, tuple(range(num_prompt)), num_output=60)

    records = run([request], lambda: by_lot(width, num_prompt))

    tree = pages_of_a_tree(num_prompt, 60, by_lot(width, num_prompt))
    assert [record.pages_held for record in records] == tree
    assert [record.num_sequences for record in records] == [1] + [width] * 59


def test_beams_that_never_meet_share_their_prompt_alone():
    def side_by_side() -> Genealogy:
        yield 0, 0
        while True:
            yield 0, 1

    records = run([TimedRequest("a", 0.0, (1, 2, 3, 4, 5), 8)], side_by_side)

    # one page of the prompt for both; from the sixth token on each has its own second, then third
    assert [record.pages_held for record in records] == [2, 3, 3, 3, 5, 5, 5, 5]


def test_every_request_is_searched_to_its_end_also_when_beams_are_evicted():
    workload = generate(ALPACA, 30, rate=1.0, seed=0)
    seeds = iter(range(30))

    records = run(workload, lambda: by_lot(3, next(seeds)), num_pages=260)

    assert sum(record.num_preempted for record in records) > 0
