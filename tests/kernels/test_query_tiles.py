"""How a step's queries are cut into tiles."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import Shape, make_table

from pallas_kernels.paged_attention.query_tiles import most_tiles, query_tiles


def tiles_of(spans: list[tuple[int, int]], size: int, least_queries: int = 1) -> list[list[int]]:
    table = make_table(Shape(T=24, B=5), spans, np.zeros((5, 4), np.int32), 9)
    tiles = np.asarray(query_tiles(table, size, least_queries))
    assert len(tiles) == most_tiles(24, 5, size)
    return [tile for tile in tiles.tolist() if tile[2]]


def test_tiles_never_cross_a_sequence_and_the_last_comes_first():
    tiles = tiles_of([(10, 6), (3, 1), (0, 0), (0, 3)], size=4)

    padding = [[4, 22, 2, 0], [4, 18, 4, 0], [4, 14, 4, 0], [4, 10, 4, 0]]
    assert tiles == [*padding, [3, 7, 3, 3], [1, 6, 1, 4], [0, 4, 2, 16], [0, 0, 4, 16]]


def test_sequences_of_few_queries_have_no_keys():
    tiles = tiles_of([(10, 6), (3, 1), (7, 2)], size=32, least_queries=2)

    assert [tile[3] for tile in tiles] == [0, 9, 0, 16]


def test_an_empty_step_is_all_padding():
    assert tiles_of([], size=24) == [[4, 0, 24, 0]]


@pytest.mark.parametrize("size", [1, 2, 7, 24, 100])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(news=st.lists(st.integers(0, 24), max_size=5))
def test_each_token_is_in_one_tile_of_its_sequence(size, news):
    news = [min(new, 24 - sum(news[:i])) for i, new in enumerate(news) if sum(news[:i]) <= 24]
    starts = np.cumsum([0, *news])

    tiles = tiles_of([(3, new) for new in news], size)

    tokens = [(first + i, row) for row, first, count, _ in tiles for i in range(count)]
    assert sorted(token for token, _ in tokens) == list(range(24))
    for token, row in tokens:
        if token < starts[-1]:
            assert starts[row] <= token < starts[row + 1]
    for row, first, _, length in tiles:
        assert length == (news[row] + 3 if first < starts[-1] else 0)


def test_tiles_are_integers_of_32_bits():
    table = make_table(Shape(), [(0, 5)], np.zeros((6, 4), np.int32), 9)

    assert query_tiles(table, 4).dtype == jnp.int32
