"""A policy can be slow or unfair, never wrong: whatever it says or raises, requests are served."""

from itertools import count, repeat

import pytest
from filler import a_scheduler, add, counts, run, schedule, step

from jpaged.errors import PolicyWarning
from jpaged.scheduling.policy import Fcfs
from jpaged.scheduling.request import Sequence


class Failing(Fcfs):
    """Grants some wishes, then raises."""

    def __init__(self, after: int = 0, error: Exception | None = None):
        self.after = after
        self.error = error or ZeroDivisionError("a slip")

    def propose(self, view):
        yield from list(super().propose(view))[: self.after]
        raise self.error


class FailingVictim(Fcfs):
    def victim(self, view):
        raise KeyError("nobody")


class Saying(Fcfs):
    """Proposes whatever a function of the view answers."""

    def __init__(self, say):
        self.say = say

    def propose(self, view):
        return self.say(view)


def a_stranger() -> Sequence:
    return add(a_scheduler(), "stranger")


def everyone(view):
    return (*view.running, *view.waiting)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_policy_that_raises_is_replaced_and_no_request_is_lost(after):
    policy = Failing(after)
    scheduler = a_scheduler(policy=policy)
    sequences = [add(scheduler, name) for name in "abc"]

    with pytest.warns(PolicyWarning, match="Failing raised ZeroDivisionError: a slip"):
        batch = step(scheduler)

    assert counts(batch) == {"a": 4, "b": 4, "c": 4}
    assert scheduler.policy_error is policy.error
    assert isinstance(scheduler.policy, Fcfs)
    run(scheduler)
    assert all(sequence.finish_reason == "length" for sequence in sequences)


def test_a_policy_that_raises_later_is_replaced_then():
    scheduler = a_scheduler(policy=Failing(after=99, error=RuntimeError("tired")))
    sequence = add(scheduler)

    with pytest.warns(PolicyWarning, match="tired"):
        run(scheduler)

    assert len(sequence.generated) == 4


def test_a_policy_that_raises_when_asked_for_a_victim_is_replaced():
    scheduler = a_scheduler(num_pages=4, page_size=4, policy=FailingVictim())
    sequences = [add(scheduler, name, max_tokens=9) for name in "abc"]

    with pytest.warns(PolicyWarning, match="FailingVictim raised KeyError"):
        run(scheduler)

    assert isinstance(scheduler.policy_error, KeyError)
    assert all(sequence.finish_reason == "length" for sequence in sequences)


def test_a_policy_that_fails_twice_in_a_step_is_blamed_by_its_own_name():
    class FailingTwice(FailingVictim):
        def propose(self, view):
            yield from super().propose(view)
            if scheduler.policy_error:
                raise ValueError("again")

    # in the second step b, not the eldest, needs a page and there is none
    scheduler = a_scheduler(num_pages=2, page_size=4, policy=FailingTwice())
    add(scheduler, "a", prompt=2, max_tokens=6)
    add(scheduler, "b", prompt=4)

    with pytest.warns(PolicyWarning) as warnings:
        run(scheduler)

    assert len(warnings) == 2
    assert all("policy FailingTwice raised" in str(warning.message) for warning in warnings)


def test_with_warnings_as_errors_the_next_step_goes_on():
    scheduler = a_scheduler(policy=Failing())
    sequence = add(scheduler)

    with pytest.raises(PolicyWarning):
        scheduler.schedule(0.0)
    run(scheduler)

    assert sequence.finish_reason == "length"


NONSENSE = {
    "nothing": lambda view: [],
    "wrong types": lambda view: [None, 3, "ab", (1, 2), {}, object(), (None, None, None)],
    "sequences alone": everyone,
    "no counts": lambda view: [(s, None) for s in everyone(view)],
    "fractions": lambda view: [(s, 1.5) for s in everyone(view)],
    "triples": lambda view: [(s, 1, 1) for s in everyone(view)],
    "nested": lambda view: [(Sequence, 1), (everyone, 1), (list(everyone(view)), 1)],
    "counts first": lambda view: [(1, s) for s in everyone(view)],
    "zeros": lambda view: [(s, 0) for s in everyone(view)],
    "negative": lambda view: [(s, -5) for s in everyone(view)],
    "huge": lambda view: [(s, 10**30) for s in everyone(view)],
    "booleans": lambda view: [(s, True) for s in everyone(view)],
    "a stranger": lambda view: [(a_stranger(), 4) for _ in range(9)],
    "one a thousand times": lambda view: [(everyone(view)[0], 4)] * 5000,
    "the last a thousand times": lambda view: [(everyone(view)[-1], 1)] * 5000,
    "one for ever": lambda view: repeat((everyone(view)[-1], 1)),
    "nonsense for ever": lambda view: count(),
    "zeros for ever": lambda view: repeat((everyone(view)[0], 0)),
}


@pytest.mark.parametrize("say", NONSENSE.values(), ids=NONSENSE)
def test_requests_are_served_under_a_policy_that_proposes(say):
    scheduler = a_scheduler(num_pages=6, page_size=4, max_num_batched_tokens=8)
    sequences = [add(scheduler, name, max_tokens=9) for name in "abcd"]
    scheduler.policy = Saying(say)

    run(scheduler, most=4 * (4 + 9))

    assert all(sequence.finish_reason == "length" for sequence in sequences)
    assert scheduler.policy_error is None
    assert scheduler.pool.num_held == 0


@pytest.mark.parametrize("answer", [None, 3, [1].__len__], ids=["None", "a number", "a method"])
def test_a_policy_that_answers_no_list_at_all_is_replaced(answer):
    scheduler = a_scheduler(policy=Saying(lambda view: answer))
    sequence = add(scheduler)

    with pytest.warns(PolicyWarning, match="TypeError"):
        run(scheduler)

    assert sequence.finish_reason == "length"


def test_finished_sequences_are_not_run_again():
    scheduler = a_scheduler()
    finished = add(scheduler, "a", max_tokens=1)
    step(scheduler)
    other = add(scheduler, "b")

    scheduler.policy = Saying(lambda view: [(finished, 1), (other, 4)])

    assert counts(step(scheduler)) == {"b": 4}
    assert len(finished.generated) == 1


def test_a_sequence_proposed_twice_runs_once():
    scheduler = a_scheduler(policy=Saying(lambda view: [(view.waiting[0], 2)] * 2))
    add(scheduler, "a")

    assert counts(schedule(scheduler)) == {"a": 2}


def test_a_policy_that_never_proposes_still_admits_the_first_that_waits():
    scheduler = a_scheduler(policy=Saying(lambda view: []))
    for name in "abc":
        add(scheduler, name, max_tokens=2)

    ran = [counts(batch) for batch in run(scheduler)]

    assert ran == [{name: n} for name in "abc" for n in (4, 1)]
