"""The order of the elements within a page, as the C++ kernel keeps it.

A page of one head is cut into tiles of 16 tokens:

    keys    [words of D][16 tokens]         a word: one float32, or two neighbouring dimensions
    values  [words of 16 tokens][D]         a word: one float32, or two neighbouring tokens

so that a product reads sixteen words that it needs together, and rearranges nothing.
"""

from jax import Array
from jaxtyping import Float

from pallas_kernels.native import TILE

Pages = Float[Array, "P K S D"]


def keys_in_tiles(pages: Pages) -> Pages:
    """From [S, D] in each page to tiles."""
    P, K, S, D = pages.shape
    words = pages.reshape(P, K, S // TILE, TILE, D // _per_word(pages), _per_word(pages))
    return words.transpose(0, 1, 2, 4, 3, 5).reshape(pages.shape)


def values_in_tiles(pages: Pages) -> Pages:
    """From [S, D] in each page to tiles."""
    P, K, S, D = pages.shape
    words = pages.reshape(P, K, S // _per_word(pages), _per_word(pages), D)
    return words.transpose(0, 1, 2, 4, 3).reshape(pages.shape)


def keys_from_tiles(pages: Pages) -> Pages:
    """Undoes `keys_in_tiles`."""
    P, K, S, D = pages.shape
    words = pages.reshape(P, K, S // TILE, D // _per_word(pages), TILE, _per_word(pages))
    return words.transpose(0, 1, 2, 4, 3, 5).reshape(pages.shape)


def values_from_tiles(pages: Pages) -> Pages:
    """Undoes `values_in_tiles`."""
    P, K, S, D = pages.shape
    words = pages.reshape(P, K, S // _per_word(pages), D, _per_word(pages))
    return words.transpose(0, 1, 2, 4, 3).reshape(pages.shape)


def _per_word(pages: Array) -> int:
    return 4 // pages.dtype.itemsize
