"""Cuts the queries of a step into tiles for kernels that copy whole tiles.

A tile never crosses a sequence, and begins at a multiple of `ALIGNMENT` tokens, because the copy
engine of a GPU addresses its tiles that way.  Its first and last places may be someone else's:

    tokens   a a a | b b b b b b b b b b b | · · ·       alignment 4, tile size 8
    tiles   [a a a x x x x x]
                [x b b b b b b b] [b b b b · · x x] ...

All is computed on the device with a handful of small operations, and no host work.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from pallas_kernels.page_table import PageTable

ALIGNMENT = 8


class QueryTiles(NamedTuple):
    """M tiles.  A tile owns the tokens `begin` to `end` and computes `start` to `start + size`."""

    sequence: Int[Array, " M"]  # B for tokens that are padding
    start: Int[Array, " M"]
    begin: Int[Array, " M"]
    end: Int[Array, " M"]  # `begin` in a tile that is padding
    position: Int[Array, " M"]  # of `start`: before 0 where that is another sequence's
    num_keys: Int[Array, " M"]  # of the sequence, 0 for padding


def cut_into_query_tiles(table: PageTable, size: int, least_queries: int = 1) -> QueryTiles:
    """Tiles for all tokens but those of sequences with fewer than `least_queries` of them.

    Sequence b has the tiles from begins[b] // size + b on: so far apart that they never collide.
    """
    T, B = table.positions.shape[0], table.lengths.shape[0]
    ends = jnp.append(table.query_starts[1:], T)  # what follows the sequences is padding
    begins = table.query_starts
    origins = begins - begins % ALIGNMENT
    first_tiles = origins // size + jnp.arange(B + 1)
    tile = jnp.arange(-(-T // size) + B)
    sequence = jnp.sum(first_tiles[None, 1:] <= tile[:, None], axis=1)
    start = origins[sequence] + (tile - first_tiles[sequence]) * size
    begin = jnp.maximum(begins[sequence], start)
    end = jnp.minimum(ends[sequence], start + size)
    num_queries = (ends - begins)[sequence]
    is_served = (num_queries >= least_queries) | (sequence == B)
    end = jnp.where(is_served, jnp.maximum(begin, end), begin)
    position = table.positions.at[begin].get(mode="clip") - (begin - start)
    num_keys = jnp.append(table.lengths, 0)[sequence]
    return QueryTiles(sequence, start, begin, end, position, num_keys)


def tile_of_tokens(table: PageTable, size: int) -> tuple[Int[Array, " T"], Int[Array, " T"]]:
    """Each token's tile, and its place in that."""
    tokens = jnp.arange(table.positions.shape[0])
    sequence = jnp.sum(table.query_starts[None, 1:] <= tokens[:, None], axis=1)
    begin = table.query_starts[sequence]
    place = tokens - begin + begin % ALIGNMENT
    return (begin - begin % ALIGNMENT) // size + sequence + place // size, place % size


__all__ = ["ALIGNMENT", "QueryTiles", "cut_into_query_tiles", "tile_of_tokens"]
