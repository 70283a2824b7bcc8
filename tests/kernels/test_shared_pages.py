"""Decode steps whose sequences begin with the same pages: the reference walks those once."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ragged import Ragged, Shape, attention, make_ragged

from pallas_kernels.kv_write import write
from pallas_kernels.paged_attention.reference import GROUP, attend, num_shared_pages

SHAPE = Shape(T=GROUP + 8, B=GROUP + 8, N=24, S=16)
FLOAT32 = 1e-5  # sums of some hundred terms of order one, in another order than the oracle's


def share(batch: Ragged, num_pages: int, rows: list[int]) -> Ragged:
    """The same batch, in which these rows begin with the first pages of the first of them."""
    pages = np.array(batch.table.pages)
    tokens = num_pages * batch.shape.S
    for row in rows[1:]:
        pages[row, :num_pages] = pages[rows[0], :num_pages]
        batch.keys[row][:tokens] = batch.keys[rows[0]][:tokens]
        batch.values[row][:tokens] = batch.values[rows[0]][:tokens]
    table = batch.table._replace(pages=jnp.asarray(pages))
    return replace(batch, table=table)


def attended(batch: Ragged, **options) -> np.ndarray:
    table = batch.table
    new, pages = (batch.k, batch.v), (batch.k_pages, batch.v_pages)
    k, v, k_pages, v_pages = map(jnp.array, (*new, *pages))
    k_pages, v_pages = write(k, v, k_pages, v_pages, table.write_slots)
    out = jax.jit(partial(attend, **options))(jnp.array(batch.q), k_pages, v_pages, table)
    return np.asarray(out)


@pytest.mark.parametrize(
    ("befores", "num_pages"),
    [
        ([300] * 20, 18),
        ([300, 260, 380, 257] * 5, 16),  # to the page before the shortest one's query
        ([256, 256 + 15, 300], 16),  # all that the first one has before its query
        ([200] * 4, 3),  # less than a chunk
        ([300], 16),  # one sequence, which shares with itself
    ],
)
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"window": 70}], ids=str)
def test_what_is_shared_is_seen_by_all(befores, num_pages, options):
    rows = list(range(len(befores)))
    batch = share(make_ragged(SHAPE, [(before, 1) for before in befores]), num_pages, rows)
    expected = attention(batch, scale=0.25, **options)
    np.testing.assert_allclose(
        attended(batch, scale=0.25, **options), expected, rtol=0, atol=FLOAT32
    )


def test_sinks_count_once():
    batch = share(make_ragged(SHAPE, [(300, 1)] * 18), 17, list(range(18)))
    sinks = np.linspace(-2, 2, SHAPE.H)
    out = attended(batch, scale=0.25, sinks=jnp.asarray(sinks, jnp.float32))
    expected = attention(batch, scale=0.25, sinks=sinks)
    np.testing.assert_allclose(out, expected, rtol=0, atol=FLOAT32)


def test_a_query_inside_of_shared_pages_sees_only_what_is_before_it():
    """Two chunks of prompts and single tokens: as many tokens as rows, and T == B."""
    spans = [(290, 5), (256, 4), (280, 1)]
    batch = share(make_ragged(SHAPE, spans), 16, [0, 1, 2])
    inside = share(make_ragged(SHAPE, [(100, 5), (256, 4), (280, 1)]), 6, [0, 1, 2])
    for each in (batch, inside):
        expected = attention(each, scale=0.25)
        np.testing.assert_allclose(attended(each, scale=0.25), expected, rtol=0, atol=FLOAT32)


def test_pages_count_as_shared_up_to_the_first_query():
    befores = [300, 260, 380]
    batch = share(make_ragged(SHAPE, [(before, 1) for before in befores]), 16, [0, 1, 2])
    assert int(num_shared_pages(batch.table, 16)) == 16
    early = share(make_ragged(SHAPE, [(300, 1), (70, 1), (380, 1)]), 4, [0, 1, 2])
    assert int(num_shared_pages(early.table, 16)) == 4
    odd = share(make_ragged(SHAPE, [(before, 1) for before in befores]), 16, [0, 1])
    assert int(num_shared_pages(odd.table, 16)) == 0
