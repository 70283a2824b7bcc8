"""What happens when pages run out: who gives way, and that nothing is lost by it."""

from contextlib import nullcontext
from typing import Any

import pytest
from filler import FILLER, Wishes, a_scheduler, add, counts, names, run, schedule, step

from jpaged.errors import PolicyWarning
from jpaged.scheduling.batch import StepOutput
from jpaged.scheduling.policy import Fcfs, Policy
from jpaged.scheduling.request import Sequence, Status


class Names(Policy):
    """Runs everyone in turn; names a fixed victim, whatever is right."""

    def __init__(self, victim: Any):
        self.chosen = victim

    def propose(self, view):
        return Fcfs().propose(view)

    def victim(self, view):
        return self.chosen


class LastInFirstOut(Policy):
    """The newest first, and the eldest gives way: without the scheduler's rules, no end."""

    def propose(self, view):
        for sequence in reversed((*view.running, *view.waiting)):
            yield sequence, sequence.num_pending

    def victim(self, view):
        return view.running[0]


def three_in_four_pages(policy=None):
    """Three sequences of one full page each; the next step needs six pages and four exist."""
    scheduler = a_scheduler(num_pages=4, page_size=4, policy=policy, enable_prefix_caching=False)
    sequences = [add(scheduler, name, prompt=4, max_tokens=9) for name in "abc"]
    step(scheduler)
    return scheduler, sequences


def answer(sequence: Sequence) -> int:
    """A token that depends on all before it, as a model's greedy choice does."""
    return hash(tuple(sequence.tokens)) % 50


def run_like_a_model(scheduler) -> None:
    """Runs to the end with tokens that depend on the whole sequence."""
    for now in range(500):
        if not scheduler.has_unfinished:
            return
        batch = schedule(scheduler, now)
        tokens = tuple(answer(sequence) for sequence, _ in batch.items)
        scheduler.update(batch, StepOutput(tokens, {}, {}), now)
    raise AssertionError("still at work after 500 steps")


def test_the_youngest_gives_way_and_keeps_its_tokens():
    scheduler, (_, _, youngest) = three_in_four_pages()

    batch = step(scheduler)

    assert batch.preempted == (youngest,)
    assert (youngest.status, youngest.pages) == (Status.WAITING, [])
    assert (youngest.num_computed, youngest.num_preemptions) == (0, 1)
    assert youngest.generated == [FILLER]


def test_a_preempted_sequence_computes_its_own_answer_anew():
    scheduler, (_, _, youngest) = three_in_four_pages()
    seen = []
    while youngest.status is not Status.FINISHED:
        seen.append(counts(step(scheduler)).get("c"))

    # the prompt; five tokens once readmitted (the prompt and one of its own); then one by one
    assert [count for count in seen if count] == [5, *[1] * 7]
    assert len(youngest.generated) == 9


def test_a_preempted_sequence_waits_before_those_that_came_later():
    scheduler, _ = three_in_four_pages()
    add(scheduler, "d")

    step(scheduler)

    assert names(scheduler.waiting) == "cd"


def test_preemption_does_not_change_what_is_written():
    few = a_scheduler(num_pages=5, page_size=4)
    many = a_scheduler(num_pages=64, page_size=4)
    results = []
    for scheduler in (few, many):
        sequences = [add(scheduler, name, prompt=4, max_tokens=9) for name in "abcd"]
        run_like_a_model(scheduler)
        results.append([sequence.generated for sequence in sequences])
        preemptions = sum(sequence.num_preemptions for sequence in sequences)
        assert (preemptions > 0) == (scheduler is few)

    assert results[0] == results[1]


def test_a_preempted_sequence_finds_its_own_pages_if_nobody_took_them():
    scheduler = a_scheduler(num_pages=5, page_size=4)
    eldest = add(scheduler, "a", prompt=8, max_tokens=3)
    youngest = add(scheduler, "b", prompt=11, max_tokens=3)
    for _ in range(3):
        step(scheduler)
    assert eldest.is_finished and youngest.num_preemptions == 1

    batch = step(scheduler)

    # two full pages of its first eleven tokens stayed in the cache
    assert batch.items == ((youngest, len(youngest.tokens) - 1 - 8),)


def test_the_policy_chooses_who_gives_way():
    scheduler, (_, second, _) = three_in_four_pages()
    scheduler.policy = Names(second)

    assert step(scheduler).preempted == (second,)


def test_the_eldest_is_never_evicted():
    scheduler, _ = three_in_four_pages(LastInFirstOut())
    eldest, _, youngest = scheduler.running

    batch = step(scheduler)

    assert eldest not in batch.preempted
    assert batch.preempted == (youngest,)


def test_the_eldest_gets_a_token_in_every_step():
    scheduler = a_scheduler(num_pages=8, max_num_batched_tokens=2, policy=LastInFirstOut())
    eldest = add(scheduler, "a", prompt=1, max_tokens=12)
    step(scheduler)
    for name in "bcde":
        add(scheduler, name, prompt=6)

    batches = [step(scheduler) for _ in range(11)]

    assert all(counts(batch)["a"] == 1 for batch in batches)
    assert eldest.is_finished


def test_the_tokens_of_an_evicted_sequence_go_to_those_behind_it():
    scheduler = a_scheduler(num_pages=16, page_size=1, max_num_batched_tokens=6)
    add(scheduler, "a", prompt=1, max_tokens=12)
    for name in "bcd":
        add(scheduler, name, prompt=5)
    scheduler.policy = Wishes(*((name, 1) for name in "abcd"))
    step(scheduler)
    scheduler.policy = Wishes(("a", 1))
    for _ in range(7):
        step(scheduler)  # a has eight pages now, and the others one each

    # a and c take the last five pages and five of six tokens; for b, c gives them back
    scheduler.policy = Wishes(("c", 4), ("b", 1), ("d", 4), gives_way="c")
    batch = step(scheduler)

    assert names(batch.preempted) == "c"
    assert counts(batch) == {"b": 1, "d": 4, "a": 1}


def test_nobody_is_admitted_in_a_step_that_evicted_someone():
    scheduler = a_scheduler(num_pages=4, page_size=4, enable_prefix_caching=False)
    add(scheduler, "a", prompt=4, max_tokens=9)
    add(scheduler, "b", prompt=11)
    step(scheduler)
    add(scheduler, "c", prompt=1, max_tokens=1)

    scheduler.policy = LastInFirstOut()  # it would let c in before all others
    batch = step(scheduler)

    assert names(batch.preempted) == "b"
    assert scheduler.pool.num_free == 2  # there was room for c
    assert counts(batch) == {"a": 1}


def test_last_in_first_out_comes_to_an_end():
    scheduler = a_scheduler(num_pages=5, page_size=4, policy=LastInFirstOut())
    sequences = [add(scheduler, name, prompt=4, max_tokens=9) for name in "abcdef"]

    run(scheduler, most=6 * (4 + 9))

    assert all(sequence.finish_reason == "length" for sequence in sequences)


class EqualsEverything:
    def __eq__(self, other):
        return True


class Incomparable:
    def __eq__(self, other):
        raise ValueError("the truth of this is ambiguous")


@pytest.mark.parametrize(
    "nonsense",
    [None, 3, "a", EqualsEverything(), Incomparable()],
    ids=["None", "a number", "a string", "equal to all", "incomparable"],
)
def test_a_victim_that_is_none_is_replaced_by_the_youngest(nonsense):
    scheduler, (_, _, youngest) = three_in_four_pages()
    scheduler.policy = Names(nonsense)

    with pytest.warns(PolicyWarning, match="policy Names named .* which is no running sequence"):
        assert step(scheduler).preempted == (youngest,)


def test_a_victim_that_does_not_run_is_told_of_once():
    scheduler, _ = three_in_four_pages(policy=Names(5))

    with pytest.warns(PolicyWarning, match=r"policy Names named 5 .* no running sequence") as told:
        run(scheduler)

    assert len(told) == 1 and told[0].filename == __file__
    assert isinstance(scheduler.policy, Names)


@pytest.mark.parametrize("which", ["eldest", "waiting", "finished", "of another scheduler"])
def test_a_victim_that_may_not_be_one_is_replaced_by_the_youngest(which):
    scheduler, (eldest, _, youngest) = three_in_four_pages()
    finished = add(scheduler, "f", max_tokens=1)
    scheduler.abort("f")
    victims = {
        "eldest": eldest,
        "waiting": add(scheduler, "w"),
        "finished": finished,
        "of another scheduler": three_in_four_pages()[1][1],
    }
    scheduler.policy = Names(victims[which])
    runs = victims[which].status is Status.RUNNING  # else it cannot be meant

    with nullcontext() if runs else pytest.warns(PolicyWarning, match="no running sequence"):
        assert step(scheduler).preempted == (youngest,)
