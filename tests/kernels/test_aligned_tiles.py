"""Tiles that begin at a multiple of eight tokens, against the batches they are cut from."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import Shape, make_table

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.aligned_tiles import (
    ALIGNMENT,
    aligned_tiles,
    places_of_tokens,
)

SHAPE = Shape(T=100, B=7, N=20)


def table_of(spans: list[tuple[int, int]], shape: Shape = SHAPE) -> PageTable:
    return make_table(shape, spans, np.zeros((shape.B, shape.N), np.int32), shape.N)


@st.composite
def random_spans(draw) -> list[tuple[int, int]]:
    left, spans = SHAPE.T, []
    for _ in range(draw(st.integers(0, SHAPE.B))):
        new = draw(st.integers(0, min(left, 40)))
        spans.append((draw(st.integers(0, 50)), new))
        left -= new
    return spans


@pytest.mark.parametrize("size", [8, 32])
@settings(deadline=None, derandomize=True)
@given(spans=random_spans(), least_queries=st.sampled_from([1, 2, 30]))
def test_each_token_is_in_one_tile_of_its_own_sequence(size, spans, least_queries):
    table = table_of(spans)
    tiles = [np.asarray(field) for field in aligned_tiles(table, size, least_queries)]
    owners = np.full(SHAPE.T, -1)

    for i, (sequence, start, begin, end, position, num_keys) in enumerate(zip(*tiles, strict=True)):
        if begin < end:
            assert start % ALIGNMENT == 0
            assert start <= begin and end <= min(start + size, SHAPE.T)
            assert (owners[begin:end] == -1).all()
            owners[begin:end] = i
            if num_keys:
                first, stop = table.query_starts[sequence : sequence + 2]
                assert first <= begin and end <= stop
                assert num_keys == table.lengths[sequence]
                assert position + begin - start == table.positions[begin]

    counts = [new for _, new in spans]
    is_served = np.repeat([new >= least_queries for new in counts], counts)
    padding = np.ones(SHAPE.T - sum(counts), bool)
    np.testing.assert_array_equal(owners >= 0, np.concatenate([is_served, padding]))
    tile, place = places_of_tokens(table, size)
    assert (np.asarray(tile)[owners >= 0] == owners[owners >= 0]).all()
    np.testing.assert_array_equal(tiles[1][tile] + place, np.arange(SHAPE.T))


def test_a_long_prompt_has_full_tiles_but_for_its_ends():
    table = table_of([(0, 3), (0, 90)])

    tiles = aligned_tiles(table, 16)

    sizes = (tiles.end - tiles.begin)[tiles.sequence == 1]
    assert [int(size) for size in sizes if size > 0][:6] == [13, 16, 16, 16, 16, 13]
    assert jnp.all(tiles.num_keys[tiles.sequence == 1][:6] == 90)
