"""Automatic prefix caching: a full page is known by the tokens in it and all those before it.

A page's key is a digest of its parent's key and its own tokens, so equal keys mean equal
prefixes, whichever request wrote them:

    key₀ = H(root, tokens[0:S])   key₁ = H(key₀, tokens[S:2S])   …

The digest is cryptographic (BLAKE2): a collision would hand one user's context to another.
"""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from jpaged.scheduling.pages import PagePool

ROOT = b"jpaged"


def chain_key(parent: bytes, tokens: Iterable[int]) -> bytes:
    """The key of a full page: 16 bytes that depend on every token up to its end."""
    return blake2b(array("q", tokens).tobytes(), key=parent, digest_size=16).digest()


def extend_keys(keys: list[bytes], tokens: Sequence[int], page_size: int, upto: int) -> None:
    """Appends to `keys` those of the pages that lie wholly within the first `upto` tokens."""
    for start in range(len(keys) * page_size, upto - page_size + 1, page_size):
        parent = keys[-1] if keys else ROOT
        keys.append(chain_key(parent, tokens[start : start + page_size]))


class PrefixCache:
    """Finds the pages that already hold a prefix.

    Invariant: `page_of` and `key_of` are inverse to each other, and every page in them is held
    or idle in the pool.
    """

    def __init__(self, pool: PagePool):
        self.pool = pool
        self.page_of: dict[bytes, int] = {}
        self.key_of: dict[int, bytes] = {}
        self.num_queried = 0  # tokens looked up
        self.num_hits = 0  # tokens found
        pool.on_evict = self.forget

    def match(self, keys: Iterable[bytes]) -> list[int]:
        """The longest run of cached pages, from the first key on.  Takes no hold on them."""
        pages = []
        for key in keys:
            page = self.page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def remember(self, page: int, key: bytes) -> bool:
        """Keeps a full page under its key; False if another page has it already."""
        if key in self.page_of or page in self.key_of:
            return False
        self.page_of[key] = page
        self.key_of[page] = key
        self.pool.remember(page)
        return True

    def forget(self, page: int) -> None:
        del self.page_of[self.key_of.pop(page)]

    def disown(self, page: int) -> None:
        """Forgets a held page whose keys and values will not be written after all."""
        self.forget(page)
        self.pool.remembered[page] = False
