"""Cuts the queries of a step into tiles that begin at a multiple of eight tokens.

The copy engine of a GPU moves tiles of 8 rows, and takes an index within one for another tile's.
So the first and last places of a tile may be someone else's:

    tokens   a a a a a a a a a a b b b | c c c c c c c c · · ·        size 16
             |               |               |
    tiles   [a a a a a a a a a a x x x x x x]
                            [x x b b b x x x x x x x x x x x]
                            [x x x x x c c c c c c c c x x x] ...

Compared with `query_tiles` this costs some places, and nothing in a long prompt.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from pallas_kernels.page_table import PageTable

ALIGNMENT = 8


class AlignedTiles(NamedTuple):
    """M tiles.  A tile covers `start` to `start + size`, of which `begin` to `end` are its own."""

    sequence: Int[Array, " M"]  # a row of the table
    start: Int[Array, " M"]
    begin: Int[Array, " M"]
    end: Int[Array, " M"]  # not after `begin` where the tile has nothing to do
    position: Int[Array, " M"]  # of `start`: negative where that is another sequence's
    num_keys: Int[Array, " M"]  # in the sequence; 0 where the tokens are padding


def aligned_tiles(table: PageTable, size: int, least_queries: int = 1) -> AlignedTiles:
    """Tiles for all tokens, padding too, but those of sequences with fewer than `least_queries`.

    Sequence b has the tiles from begins[b] // size + b on, so that nothing need be summed up.
    They do not reach the next one's: b's tokens end where those of b + 1 begin, so that even if
    its tiles do not begin together with multiples of `size`, they are at most one more than those.
    """
    T, B = table.positions.shape[0], table.lengths.shape[0]
    begins, ends = table.query_starts, jnp.append(table.query_starts[1:], T)
    origins = begins - begins % ALIGNMENT
    first_tiles = origins // size + jnp.arange(B + 1)
    tile = jnp.arange(-(-T // size) + B)
    sequence = jnp.sum(first_tiles[1:] <= tile[:, None], axis=1)  # B: padding
    start = origins[sequence] + (tile - first_tiles[sequence]) * size
    begin = jnp.maximum(begins[sequence], start)
    end = jnp.minimum(ends[sequence], start + size)
    is_served = ((ends - begins)[sequence] >= least_queries) | (sequence == B)
    return AlignedTiles(
        sequence=jnp.minimum(sequence, B - 1),
        start=start,
        begin=begin,
        end=jnp.where(is_served, end, begin),
        position=table.positions.at[begin].get(mode="clip") - (begin - start),
        num_keys=jnp.append(table.lengths, 0)[sequence],
    )


def places_of_tokens(table: PageTable, size: int) -> tuple[Int[Array, " T"], Int[Array, " T"]]:
    """Each token's tile, and its place in that."""
    token = jnp.arange(table.positions.shape[0])
    sequence = jnp.sum(table.query_starts[1:] <= token[:, None], axis=1)
    begin = table.query_starts[sequence]
    origin = begin - begin % ALIGNMENT
    return origin // size + sequence + (token - origin) // size, (token - origin) % size
