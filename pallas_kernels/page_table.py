"""The letter from the scheduler to the device: which token belongs where.

    tokens        [ a a a a | b | c c | · ]       T, the sequences of the step one after another
    query_starts    0         4   5     7   7     B + 1
    pages[b]      [ 7 2 9 · ]                     N pages of sequence b, in reading order

Places marked · are padding.
"""

from typing import NamedTuple

import jax
from jaxtyping import Int


class PlacedPages(NamedTuple):
    """Where layers of a narrower window have the pages and tokens of a `PageTable`.

    Of a page that is out of sight `pages` names any other.
    """

    pages: Int[jax.Array, "B N"]
    write_slots: Int[jax.Array, " T"]


class PageTable(NamedTuple):
    """Shapes: T tokens in the step, B sequences, N pages per sequence.  All i32.

    positions: each token's place in its sequence.  write_slots: each token's place in the cache,
    page · S + offset; at or beyond P · S (padding) nothing is written.  lengths: tokens in each
    sequence after this step, 0 for padding.  Unused entries of `pages` name any valid page.
    placed: for a narrower window, pages and slots in the smaller cache of the layers that have it.
    """

    positions: Int[jax.Array, " T"]
    write_slots: Int[jax.Array, " T"]
    query_starts: Int[jax.Array, " B+1"]
    pages: Int[jax.Array, "B N"]
    lengths: Int[jax.Array, " B"]
    placed: dict[int, PlacedPages] = {}  # noqa: RUF012, nobody changes it

    def within(self, window: int | None) -> "PageTable":
        """The table for layers of this window."""
        if not self.placed:
            return self
        own = self.placed.get(window or 0, PlacedPages(self.pages, self.write_slots))
        return self._replace(pages=own.pages, write_slots=own.write_slots, placed={})
