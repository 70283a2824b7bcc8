"""The page pool: who holds what, and what is evicted when."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jpaged.scheduling.pages import PagePool


class LeastRecent:
    """Evicts who was used least recently, and notes it."""

    def __init__(self, evicted: list[int]):
        self.evicted = evicted

    def choose_idle(self, pages):
        return next(iter(pages))

    def forget(self, page: int) -> None:
        self.evicted.append(page)


def idle_pages(pool: PagePool, count: int) -> list[int]:
    """Takes pages, marks them as worth keeping and lets go of them, the first one first."""
    pages = pool.allocate(count)
    for page in pages:
        pool.remember(page)
    pool.release(pages)
    return pages


def test_allocated_pages_are_distinct_and_held():
    pool = PagePool(num_pages=8, page_size=4)

    pages = pool.allocate(3)

    assert len(set(pages)) == 3
    assert (pool.num_held, pool.num_free) == (3, 5)


def test_freed_pages_return_to_the_pool():
    pool = PagePool(num_pages=3, page_size=4)
    pages = pool.allocate(3)

    pool.release(pages)

    assert pool.num_free == 3
    assert sorted(pool.allocate(3)) == sorted(pages)


def test_allocating_nothing_takes_nothing():
    pool = PagePool(num_pages=1, page_size=4)

    assert pool.allocate(0) == []
    assert pool.num_free == 1


@pytest.mark.parametrize(
    ("tokens", "pages"), [(0, 0), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)]
)
def test_a_started_page_is_a_whole_page(tokens, pages):
    assert PagePool(num_pages=8, page_size=4).pages_for(tokens) == pages


def test_a_shared_page_stays_until_its_last_holder_lets_go():
    pool = PagePool(num_pages=2, page_size=4)
    (page,) = pool.allocate(1)
    pool.share(page)

    pool.release([page])
    held_after_one = pool.num_held
    pool.release([page])

    assert (held_after_one, pool.num_held) == (1, 0)


def test_a_remembered_page_becomes_idle_and_still_counts_as_free():
    pool = PagePool(num_pages=4, page_size=4)

    idle_pages(pool, 2)

    assert (pool.num_idle, pool.num_free, pool.num_held) == (2, 4, 0)


def test_an_idle_page_can_be_shared_again():
    pool = PagePool(num_pages=2, page_size=4)
    (page,) = idle_pages(pool, 1)

    pool.share(page)

    assert (pool.num_idle, pool.num_held) == (0, 1)


def test_free_pages_are_used_before_idle_ones():
    evicted = []
    pool = PagePool(num_pages=4, page_size=4, keeper=LeastRecent(evicted))
    kept = idle_pages(pool, 2)

    pages = pool.allocate(2)

    assert not set(pages) & set(kept)
    assert evicted == []


def test_the_least_recently_used_idle_page_is_evicted_first():
    evicted = []
    pool = PagePool(num_pages=3, page_size=4, keeper=LeastRecent(evicted))
    first, second, third = idle_pages(pool, 3)
    pool.share(first)  # used again, and so the most recent
    pool.release([first])

    pool.allocate(3)

    assert evicted == [second, third, first]


def test_a_prefix_released_from_its_end_is_evicted_from_its_end():
    evicted = []
    pool = PagePool(num_pages=3, page_size=4, keeper=LeastRecent(evicted))
    prefix = pool.allocate(3)
    for page in prefix:
        pool.remember(page)

    pool.release(reversed(prefix))
    pool.allocate(2)

    assert evicted == [prefix[2], prefix[1]]


def test_an_evicted_page_is_no_longer_remembered():
    pool = PagePool(num_pages=1, page_size=4)
    idle_pages(pool, 1)

    pool.release(pool.allocate(1))

    assert (pool.num_idle, pool.num_free) == (0, 1)


@pytest.mark.parametrize("move", [PagePool.share, PagePool.remember])
def test_a_free_page_cannot_be_shared_or_remembered(move):
    pool = PagePool(num_pages=1, page_size=4)

    with pytest.raises(AssertionError, match="page 0"):
        move(pool, 0)


def test_a_page_cannot_be_released_twice():
    pool = PagePool(num_pages=1, page_size=4)
    pages = pool.allocate(1)
    pool.release(pages)

    with pytest.raises(AssertionError, match="held by nobody"):
        pool.release(pages)


def test_more_pages_than_there_are_is_an_error_with_numbers():
    pool = PagePool(num_pages=2, page_size=4)

    with pytest.raises(AssertionError, match="3 pages wanted, 2 free"):
        pool.allocate(3)


class PoolAgainstModel(RuleBasedStateMachine):
    """Random moves on a pool, and on a dict of counters that says what should come of them."""

    def __init__(self):
        super().__init__()
        self.holders = dict.fromkeys(range(6), 0)
        self.keep: set[int] = set()  # remembered, held or not
        self.evicted: list[int] = []
        self.pool = PagePool(num_pages=6, page_size=4, keeper=LeastRecent(self.evicted))

    @property
    def held(self) -> list[int]:
        return [page for page, count in self.holders.items() if count]

    @precondition(lambda self: len(self.held) < 6)
    @rule(data=st.data())
    def allocate(self, data):
        count = data.draw(st.integers(1, 6 - len(self.held)))
        never_used = {page for page in self.holders if not self.holders[page]} - self.keep
        self.evicted.clear()
        pages = self.pool.allocate(count)
        assert len(set(pages)) == count and not set(pages) & set(self.held)
        assert never_used <= set(pages) or not self.evicted
        assert set(self.evicted) == self.keep & set(pages)
        self.keep -= set(pages)
        self.holders.update(dict.fromkeys(pages, 1))

    @precondition(lambda self: self.held or self.keep)
    @rule(data=st.data())
    def share(self, data):
        page = data.draw(st.sampled_from(sorted({*self.held, *self.keep})))
        self.pool.share(page)
        self.holders[page] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        page = data.draw(st.sampled_from(self.held))
        self.pool.release([page])
        self.holders[page] -= 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def remember(self, data):
        page = data.draw(st.sampled_from(self.held))
        self.pool.remember(page)
        self.keep.add(page)

    @invariant()
    def pool_and_model_agree(self):
        assert self.pool.holders == list(self.holders.values())
        assert self.pool.num_held == len(self.held)
        assert self.pool.num_free == 6 - len(self.held)
        assert self.pool.num_idle == len(self.keep - set(self.held))
        self.pool.check()


PoolAgainstModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True
)
TestPoolAgainstModel = PoolAgainstModel.TestCase
