"""The order of elements in a page that the C++ attention reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.paged_attention.tiles import (
    keys_from_tiles,
    keys_in_tiles,
    values_from_tiles,
    values_in_tiles,
)

P, K, S, D = 2, 3, 32, 48
PAGE, HEAD, TOKEN, DIM = 1, 2, 19, 5  # one element: the fourth token of the page's second tile


def place_of_one_element(rearrange, dtype) -> int:
    """Where the element lands in its page and head, counted in elements."""
    pages = jnp.zeros((P, K, S, D), dtype).at[PAGE, HEAD, TOKEN, DIM].set(1)
    found = np.flatnonzero(np.asarray(rearrange(pages)))
    assert found.size == 1
    page_and_head, place = divmod(int(found[0]), S * D)
    assert divmod(page_and_head, K) == (PAGE, HEAD)
    return place


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(P, K, S, D), (1, 1, 16, 16), (3, 2, 48, 80)])
@pytest.mark.parametrize(
    ("there", "back"), [(keys_in_tiles, keys_from_tiles), (values_in_tiles, values_from_tiles)]
)
def test_pages_come_back_from_tiles_as_they_were(there, back, shape, dtype):
    pages = jax.random.normal(jax.random.key(0), shape, dtype)

    assert there(pages).shape == shape and there(pages).dtype == dtype
    assert jnp.array_equal(back(there(pages)), pages)
    assert jnp.array_equal(there(back(pages)), pages)


def test_a_float_of_a_key_is_a_word_beside_that_of_the_next_token():
    tile, lane = 1, 3

    # a word a dimension, each for sixteen tokens
    assert place_of_one_element(keys_in_tiles, jnp.float32) == tile * 16 * D + DIM * 16 + lane


def test_two_neighbouring_dimensions_of_a_bfloat16_key_share_a_word():
    tile, lane, word, half = 1, 3, 2, 1

    expected = tile * 16 * D + (word * 16 + lane) * 2 + half
    assert place_of_one_element(keys_in_tiles, jnp.bfloat16) == expected


def test_a_float_of_a_value_stays_where_it_is():
    assert place_of_one_element(values_in_tiles, jnp.float32) == TOKEN * D + DIM


def test_two_neighbouring_tokens_of_a_bfloat16_value_share_a_word():
    pair, half = 9, 1

    expected = (pair * D + DIM) * 2 + half
    assert place_of_one_element(values_in_tiles, jnp.bfloat16) == expected
