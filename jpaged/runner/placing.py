"""A step's page table, in the places of a narrower window."""

# The letters are typed as the device sees them; here they are still numpy.
# pyright: reportArgumentType=false

from array import array

import numpy as np

from jpaged.layers.paged import PageTable, PlacedPages


def in_places(
    table: PageTable, place_of: "array[int]", num_places: int, page_size: int
) -> PlacedPages:
    """Where layers of a window have what the table says.

    place_of: i32[P], the place of every page, num_places if it has none: out of sight, where any
    other serves as well, because nobody reads or writes there.
    """
    # padding is written to page P, which has no place either
    places = np.append(np.frombuffer(place_of, np.int32), np.int32(num_places))
    page, offset = np.divmod(table.write_slots, page_size)
    return PlacedPages(
        pages=np.minimum(places[table.pages], num_places - 1),
        write_slots=(places[page] * page_size + offset).astype(np.int32),
    )
