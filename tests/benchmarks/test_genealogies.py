"""The recorded genealogies of beams."""

from itertools import islice
from random import Random

import pytest
from genealogies import NUM_STEPS, PROMPTS, WIDTHS, Genealogies


def steps_to_a_common_ancestor(parents: list[tuple[int, ...]]) -> int:
    """How many steps before the last all beams were one; all of them if they never were."""
    ancestors, back = set(range(len(parents[0]))), 0
    while len(ancestors) > 1 and back < len(parents):
        back += 1
        ancestors = {parents[-back][beam] for beam in ancestors}
    return back


@pytest.mark.parametrize("width", WIDTHS)
def test_every_beam_has_a_parent_and_all_descend_from_the_first(width):
    searches = Genealogies.load(width).searches

    assert [len(search) for search in searches] == [NUM_STEPS] * len(PROMPTS)
    for search in searches:
        assert set(search[0]) == {0}
        assert all(len(step) == width and set(step) <= set(range(width)) for step in search)
        assert steps_to_a_common_ancestor(list(search)) <= NUM_STEPS


@pytest.mark.parametrize("width", WIDTHS)
def test_real_beams_live_side_by_side_for_longer_than_by_lot(width):
    rng = Random(0)
    drawn = list(islice(Genealogies.load(width).draw(rng), 2000))
    by_lot = [tuple(rng.choices(range(width), k=width)) for _ in range(2000)]

    def mean(parents: list[tuple[int, ...]]) -> float:
        backs = [steps_to_a_common_ancestor(parents[: end + 1]) for end in range(500, 2000, 10)]
        return sum(backs) / len(backs)

    # population genetics: k lines that choose by lot meet after 2 (k - 1) steps in the mean, or
    # a little less for few lines, of which two or more may meet in one step
    assert mean(by_lot) == pytest.approx(2 * (width - 1), rel=0.25)
    assert mean(drawn) > 2 * mean(by_lot)


def test_a_seed_names_a_genealogy_of_any_length():
    recorded = Genealogies.load(4)
    once, again, other = (
        list(islice(recorded.draw(Random(seed)), 3 * NUM_STEPS)) for seed in (1, 1, 2)
    )
    assert once == again != other
