"""Prompts that are made when they are looked at."""

import tracemalloc
from array import array
from hashlib import shake_128

import pytest

from jpaged.simulator.workload import VOCAB, Blocks, Passage, TimedRequest, poisson


def test_a_stream_is_the_same_each_time_and_a_longer_piece_begins_as_a_shorter_one_does():
    short, long = Passage("a", 3, 50), Passage("a", 3, 5000)
    assert tuple(long)[:50] == tuple(short) == tuple(Passage("a", 3, 50))
    assert tuple(Passage("a", 4, 50)) != tuple(short) != tuple(Passage("b", 3, 50))


def test_tokens_are_a_digest_of_the_name_by_hand():
    digest = shake_128(b"0/x/7").digest(6)
    by_hand = [(digest[i] + 256 * digest[i + 1]) % 32000 for i in (0, 2, 4)]
    assert list(Passage("0/x", 7, 3)) == by_hand


def test_tokens_are_of_the_vocabulary_and_use_all_of_it():
    tokens = list(Passage("a", 0, 200_000))
    assert 0 <= min(tokens) and max(tokens) < VOCAB
    assert len(set(tokens)) > 0.99 * VOCAB


def test_a_passage_stands_behind_what_is_before_it():
    root = Passage("tree", 0, 5)
    node = Passage("tree", 1, 3, root)
    prompt = Passage("own", 9, 4, node)

    assert len(prompt) == 12
    assert tuple(prompt) == tuple(root) + tuple(Passage("tree", 1, 3)) + tuple(Passage("own", 9, 4))
    assert [piece.num_tokens for piece in prompt.pieces()] == [5, 3, 4]


def test_tokens_behave_as_a_tuple_of_them_does():
    prompt = Passage("own", 1, 6, Passage("tree", 0, 4))
    plain = tuple(prompt)

    assert (prompt[0], prompt[-1], prompt[2:7]) == (plain[0], plain[-1], plain[2:7])
    assert plain[3] in prompt and prompt.index(plain[3]) == plain.index(plain[3])
    with pytest.raises(IndexError):
        prompt[10]
    assert prompt == Passage("own", 1, 6, Passage("tree", 0, 4))
    assert prompt != Passage("own", 1, 6) and prompt != plain
    assert len({prompt, Passage("own", 1, 6, Passage("tree", 0, 4))}) == 1


def test_equal_blocks_are_equal_tokens_and_the_last_one_ends_where_the_prompt_does():
    one = Blocks("t", array("Q", [4, 5, 6]), 16, 40)
    other = Blocks("t", array("Q", [4, 7, 6]), 16, 48)

    assert (len(list(one)), len(list(other))) == (40, 48)
    assert one[:16] == other[:16] and one[16:32] != other[16:32]
    assert one[32:40] == other[32:40]  # the beginning of the same block


def test_the_scheduler_gets_the_tokens_themselves():
    prompt = Passage("a", 0, 30)
    request = TimedRequest("r", 0.0, prompt, 5).as_request(100, before=(1, 2))
    assert request.prompt == (1, 2, *prompt)


def test_a_million_requests_fit_into_half_a_gigabyte():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        workload = poisson(1.0, 5000)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert sum(len(each.prompt) for each in workload) / 5000 > 100  # long prompts all the same
    assert held / 5000 < 500
