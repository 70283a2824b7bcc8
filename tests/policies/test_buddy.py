"""The buddy allocator of the contiguous baselines."""

from random import Random

import pytest

from jpaged.policies.buddy import Buddy, rounded


def check(buddy: Buddy) -> None:
    """Every slot is in exactly one piece, pieces lie at multiples of their length, and what could
    be joined is."""
    pieces = [(start, length) for length, starts in buddy.free.items() for start in starts]
    pieces += buddy.given.items()
    slots = [slot for start, length in pieces for slot in range(start, start + length)]
    assert sorted(slots) == list(range(buddy.num_slots))
    assert all(start % length == 0 for start, length in pieces)
    for length, starts in buddy.free.items():
        assert not any(start ^ length in starts for start in starts), "free buddies lie apart"


@pytest.mark.parametrize("num_slots", [1, 64, 100, 983])
def test_pieces_never_overlap_and_all_come_back(num_slots):
    rng, buddy = Random(num_slots), Buddy(num_slots)
    at_first = {length: set(starts) for length, starts in buddy.free.items()}
    given = []
    for _ in range(400):
        if given and rng.random() < 0.45:
            buddy.take_back(given.pop(rng.randrange(len(given))))
        else:
            start = buddy.give(rng.randint(1, num_slots))
            given += [] if start is None else [start]
        check(buddy)
    for start in given:
        buddy.take_back(start)
    assert buddy.free == at_first
    assert buddy.num_free == num_slots


def test_nothing_is_refused_while_a_free_piece_is_long_enough():
    buddy = Buddy(64)
    starts = [buddy.give(8) for _ in range(8)]
    assert None not in starts
    assert buddy.give(1) is None
    buddy.take_back(16)
    buddy.take_back(40)

    assert buddy.num_free == 16
    assert buddy.give(9) is None, "free, but in two pieces: external fragmentation"
    assert buddy.give(8) == 16
    assert buddy.give(8) == 40


def test_a_piece_is_the_next_power_of_two():
    assert [rounded(count) for count in (1, 2, 3, 4, 5, 25, 32, 33)] == [1, 2, 4, 4, 8, 32, 32, 64]
    buddy = Buddy(64)
    assert buddy.give(25) == 0
    assert buddy.given == {0: 32}


def test_a_piece_is_taken_back_once():
    buddy = Buddy(8)
    buddy.give(8)
    buddy.take_back(0)
    with pytest.raises(KeyError):
        buddy.take_back(0)
