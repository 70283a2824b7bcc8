"""An order as a policy: who pushes out whom, and for whom no room is made."""

import pytest
from filler import a_request, a_scheduler, add, names, run, step

from jpaged.policies import Priority, Ranked
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class ByName(Ranked):
    """All that an order has to say."""

    preempts = True

    def rank(self, sequence: Sequence, view: View) -> float:
        return ord(sequence.request.id)


def test_a_rank_is_a_policy():
    scheduler = a_scheduler(max_num_seqs=1, policy=ByName())
    for name in "cab":
        add(scheduler, name, max_tokens=1)

    ran = [names(sequence for sequence, _ in batch.items) for batch in run(scheduler)]

    assert ran == ["a", "b", "c"]


def test_a_policy_without_a_rank_says_so():
    with pytest.raises(NotImplementedError, match="Ranked does not say who is urgent"):
        Ranked().rank(Sequence(a_request()), a_scheduler().view(0.0))


def test_as_many_give_way_as_the_urgent_need_and_the_least_urgent_first():
    scheduler = a_scheduler(num_pages=12, page_size=4, policy=ByName())
    for name in "axyz":
        add(scheduler, name, prompt=9, max_tokens=9)  # three pages each: the pool is full
        step(scheduler)
    add(scheduler, "b", prompt=13, max_tokens=9)  # four, and one for "a"

    assert names(step(scheduler).preempted) == "zy"
    step(scheduler)
    assert names(scheduler.running) == "axb"


def test_spare_pages_are_those_that_nobody_who_runs_is_waiting_for():
    scheduler = a_scheduler(num_pages=12, page_size=4, max_num_batched_tokens=4)
    add(scheduler, "a", prompt=20, max_tokens=9)
    step(scheduler)
    view = scheduler.view(0.0)

    assert (view.free_pages, view.num_spare_pages) == (11, 7)


def test_no_room_is_made_for_a_sample_that_waits_for_its_prompt():
    """It is not let in before; who gave way for it would only come back at once, step by step."""
    scheduler = a_scheduler(max_num_seqs=3, max_num_batched_tokens=6, policy=Priority())
    for name in ("eldest", "idle", "patient"):
        add(scheduler, name, prompt=1, max_tokens=40, priority=9)
        step(scheduler)
    scheduler.add(a_request("u", prompt=32, max_tokens=2, n=2, priority=0))

    gone = [names(step(scheduler).preempted) for _ in range(20)]

    assert [name for name in gone if name] == ["patient", "idle"]


def test_whole_pages_in_the_cache_are_counted_without_touching_them():
    scheduler = a_scheduler(page_size=4)
    add(scheduler, "a", prompt=tuple(range(11)), max_tokens=1)
    step(scheduler)
    later = add(scheduler, "b", prompt=(*range(10), 70, 71, 72))
    view = scheduler.view(0.0)

    assert view.num_cached_pages(later) == 2
    assert view.num_cached(later) == 10
    assert scheduler.cache is not None
    assert not any(page.num_hits for page in scheduler.cache.known.values())
