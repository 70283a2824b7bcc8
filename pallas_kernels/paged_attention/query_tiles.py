"""A step's queries in tiles that never cross a sequence.

Prompts, chunks and single tokens become the same work:

    tokens   a a a a a a | b | c c c          tile size 4
    tiles    [a a a a] [a a · ·] [b · · ·] [c c c ·]
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Int


class Tiles(NamedTuple):
    """M tiles of C queries.  `token` is T where a tile's place is empty."""

    sequence: Int[Array, " M"]
    token: Int[Array, "M C"]


def cut_into_tiles(query_starts: Int[Array, " _"], num_tokens: int, size: int) -> Tiles:
    """Cuts each sequence's queries into tiles of `size`; there are T // size + B at most.

    query_starts: i32[B + 1], which jaxtyping cannot check in an argument while B is unknown.
    """
    num_sequences = query_starts.shape[0] - 1
    num_tiles = num_tokens // size + num_sequences if size > 1 else num_tokens
    num_queries = jnp.diff(query_starts)
    first_tile = jnp.cumulative_sum(-(-num_queries // size), include_initial=True)
    tile = jnp.arange(num_tiles)
    sequence = jnp.searchsorted(first_tile, tile, side="right") - 1
    sequence = jnp.minimum(sequence, num_sequences - 1)  # the empty tiles at the end
    offset = (tile - first_tile[sequence])[:, None] * size + jnp.arange(size)
    is_real = offset < num_queries[sequence][:, None]
    return Tiles(sequence, jnp.where(is_real, query_starts[sequence][:, None] + offset, num_tokens))
