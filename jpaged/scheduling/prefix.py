"""Automatic prefix caching: a page is known by the tokens in it and all those before it.

A page's key is a digest of its parent's key and its own tokens, so equal keys mean equal
prefixes, whichever request wrote them:

    key₀ = H(root, tokens[0:S])   key₁ = H(key₀, tokens[S:2S])   …

What tokens mean depends on more than tokens: the root holds who else must agree (a salt, so that
tenants do not learn of each other's prompts).  The digest is cryptographic (BLAKE2): a collision
would hand one user's context to another.

A page that was left half full, or whose end differs, serves for as many tokens as agree: whoever
goes on from there gets a copy (see `StepPlan`).
"""

from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Protocol

from jpaged.scheduling.pages import PagePool

KEY_BYTES = 16
MOST_TAILS = 64  # pages behind one prefix that are compared token by token, the latest ones


def root_key(*extras: str) -> bytes:
    """Where the chains of those begin who have these extras in common."""
    digest = blake2b(b"jpaged", digest_size=KEY_BYTES)
    for extra in extras:  # lengths keep ("ab", "c") apart from ("a", "bc")
        digest.update(f"{len(extra)}:{extra}".encode())
    return digest.digest()


ROOT = root_key()


def chain_key(parent: bytes, tokens: Iterable[int]) -> bytes:
    """The key of a page: 16 bytes that depend on every token up to its end."""
    return blake2b(array("q", tokens).tobytes(), key=parent, digest_size=KEY_BYTES).digest()


def extend_keys(
    keys: list[bytes], tokens: Sequence[int], page_size: int, upto: int, root: bytes = ROOT
) -> None:
    """Appends to `keys` those of the pages that lie wholly within the first `upto` tokens."""
    for start in range(len(keys) * page_size, upto - page_size + 1, page_size):
        parent = keys[-1] if keys else root
        keys.append(chain_key(parent, tokens[start : start + page_size]))


@dataclass(slots=True)
class CachedPage:
    """What the cache knows of a page; a policy ranks idle ones by it (`evict_rank`).

    depth: pages before it in its prefix.  num_hits: how often it was found.
    """

    page: int
    key: bytes
    parent: bytes
    tokens: tuple[int, ...]
    depth: int
    num_hits: int = 0


class Chooser(Protocol):
    def choose_idle(self, pages: Collection[int]) -> int: ...


class PrefixCache:
    """Finds the pages that already hold a prefix.

    Invariant: `page_of` and `known` are inverse to each other, and every page in them is held
    or idle in the pool.
    """

    def __init__(self, pool: PagePool):
        self.pool = pool
        self.page_of: dict[bytes, int] = {}
        self.known: dict[int, CachedPage] = {}
        self._below: dict[bytes, dict[int, CachedPage]] = {}  # the pages right behind a prefix
        self.num_queried = 0  # tokens looked up
        self.num_hits = 0  # tokens found
        self.chooser: Chooser | None = None
        pool.keeper = self

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens that were found, from 0 to 1."""
        return self.num_hits / self.num_queried if self.num_queried else 0.0

    def match(self, keys: Iterable[bytes]) -> list[int]:
        """The longest run of cached pages, from the first key on.  Takes no hold on them."""
        pages = []
        for key in keys:
            page = self.page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def match_tail(
        self, parent: bytes, tokens: Sequence[int], is_usable: Callable[[int], bool]
    ) -> tuple[int, int]:
        """The page behind `parent` that begins with the most of `tokens`, and how many it does."""
        best, most = -1, 0
        for known in islice(reversed(self._below.get(parent, {}).values()), MOST_TAILS):
            count = num_common(known.tokens, tokens)
            if count > most and is_usable(known.page):
                best, most = known.page, count
        return best, most

    def count_hits(self, pages: Iterable[int]) -> None:
        for page in pages:
            if page in self.known:
                self.known[page].num_hits += 1

    def remember(
        self, page: int, parent: bytes, key: bytes, tokens: Iterable[int], depth: int
    ) -> bool:
        """Keeps a page under its key; False if it, or another page, is known already."""
        if key in self.page_of or page in self.known:
            return False
        known = CachedPage(page, key, parent, tuple(tokens), depth)
        self.page_of[key] = page
        self.known[page] = known
        self._below.setdefault(parent, {})[page] = known
        self.pool.remember(page)
        return True

    def choose_idle(self, pages: Collection[int]) -> int:
        """The page that is evicted first: the chooser's choice, or the least recently used one."""
        return next(iter(pages)) if self.chooser is None else self.chooser.choose_idle(pages)

    def forget(self, page: int) -> None:
        known = self.known.pop(page)
        del self.page_of[known.key]
        siblings = self._below[known.parent]
        del siblings[page]
        if not siblings:
            del self._below[known.parent]

    def disown(self, page: int) -> None:
        """Forgets a held page whose keys and values will not be written after all."""
        self.forget(page)
        self.pool.forget(page)

    def reset(self) -> None:
        """Forgets everything.  Pages that sequences hold stay theirs."""
        for page in list(self.known):
            self.forget(page)
        self.pool.forget_all()


def num_common(first: Sequence[int], second: Sequence[int], upto: int | None = None) -> int:
    """How many tokens two streams begin with alike, of the first `upto`."""
    most = min(len(first), len(second), len(first) if upto is None else upto)
    if first[:most] == second[:most]:
        return most
    return next((i for i in range(most) if first[i] != second[i]), most)
