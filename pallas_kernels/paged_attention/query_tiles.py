"""Cuts a step's queries into tiles for a kernel, on the device, whatever the batch looks like.

    tokens   a a a a a a | b | c c c | · ·     tile size 4
    tiles    [a a a a] [a a] [b] [c c c] [· ·] [] []

A tile never crosses a sequence, so that its queries share their keys.  Padding tokens get tiles
too, of a sequence without keys: somebody has to write zeros into their rows.  There are as many
tiles as there could ever be; those that are left over are empty.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from pallas_kernels.page_table import PageTable

FIELDS = 4


def query_tiles(table: PageTable, size: int, least_queries: int = 1) -> Int[Array, "M 4"]:
    """Each tile's row in the table, first token, number of tokens, and keys in its sequence.

    Sequences with fewer queries than `least_queries` have no keys.  The last tile comes first:
    within a sequence it sees the most keys, and what starts last should be short.
    """
    T, B = table.positions.shape[0], table.lengths.shape[0]
    # the padding behind the last sequence is one sequence more
    starts = jnp.append(table.query_starts, T)
    num_queries = jnp.diff(starts)
    ends = jnp.cumulative_sum(-(-num_queries // size))  # of each sequence's tiles
    lengths = jnp.append(table.lengths, 0)
    lengths = jnp.where(num_queries >= least_queries, lengths, 0)

    tile = jnp.arange(most_tiles(T, B, size) - 1, -1, -1)
    sequence = (tile[:, None] >= ends).sum(1)  # B + 1 for those left over

    def of_sequence(values: Array) -> Array:
        return values.at[sequence].get(mode="fill", fill_value=0)

    offset = (tile - of_sequence(ends - -(-num_queries // size))) * size
    first = of_sequence(starts[:-1]) + offset
    count = jnp.clip(of_sequence(num_queries) - offset, 0, size)
    row = jnp.minimum(sequence, B - 1)
    return jnp.stack([row, first, count, of_sequence(lengths)], 1).astype(jnp.int32)


def most_tiles(num_tokens: int, num_sequences: int, size: int) -> int:
    """How many tiles a step can have: each but a sequence's last is full, and none is empty."""
    return min(num_tokens, num_tokens // size + num_sequences + 1)
