"""A policy can be slow or unfair, never wrong: whatever it says or raises, requests are served."""

import inspect
import math
import pickle
import random
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from itertools import count, repeat

import numpy as np
import pytest
from filler import a_request, a_scheduler, add, counts, run, schedule, step

from jpaged.errors import PolicyWarning, PolicyWrote, RequestRejected
from jpaged.policies import NAMES, resolve
from jpaged.scheduling.batch import StepOutput
from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.policy import Fcfs, Policy
from jpaged.scheduling.request import Sequence, Status
from jpaged.scheduling.scheduler import MOST_IDLE, Scheduler
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, simulate
from jpaged.simulator.workload import TimedRequest


class Failing(Fcfs):
    """Grants some wishes, then raises."""

    def __init__(self, after: int = 0, error: BaseException | None = None):
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


def line_of(function: Callable, text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(index for index, line in enumerate(lines) if text in line)


def test_a_warning_names_the_line_that_raised():
    scheduler = a_scheduler(policy=Failing())
    add(scheduler)

    with pytest.warns(PolicyWarning) as told:
        step(scheduler)

    line = line_of(Failing.propose, "raise self.error")
    assert [(each.filename, each.lineno) for each in told] == [(__file__, line)]
    assert f"ZeroDivisionError: a slip ({__file__}:{line})" in str(told[0].message)


def test_what_a_policy_answers_is_blamed_on_the_method_that_did():
    scheduler = a_scheduler(policy=Saying(lambda view: None))
    add(scheduler)

    with pytest.warns(PolicyWarning, match="TypeError") as told:
        step(scheduler)

    assert told[0].lineno == line_of(Saying.propose, "def propose")


def test_every_engine_tells_of_the_same_policy():
    """Python's own filter would show a warning once a process."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for policy in (Failing(), Failing(), Writes(lambda s, n: s), Writes(lambda s, n: s)):
            scheduler = a_scheduler(policy=policy)
            add(scheduler)
            run(scheduler)
        scheduler.policy = Failing()  # and once more, where it is set anew
        add(scheduler)
        run(scheduler)

    line = line_of(Writes.propose, "yield")
    assert ["no wish" in str(each.message) for each in told] == [False, False, True, True, False]
    assert told[2].lineno == told[3].lineno == line


def test_of_many_replicas_one_tells_what_is_wrong_with_their_policy():
    workload = [TimedRequest(str(i), 0.0, (i, 1), 3) for i in range(16)]

    with pytest.warns(PolicyWarning) as told:
        result = simulate(Failing(), workload, Constant(0.01), num_replicas=8)

    assert len(told) == 1 and len(result.ended) == 16


def test_a_policy_ends_no_process_but_ctrl_c_does():
    scheduler = a_scheduler(policy=Failing(error=SystemExit(3)))
    sequence = add(scheduler)
    with pytest.warns(PolicyWarning, match="raised SystemExit: 3"):
        run(scheduler)
    assert sequence.finish_reason == "length"

    scheduler.policy = Failing(error=KeyboardInterrupt())
    add(scheduler)
    with pytest.raises(KeyboardInterrupt):
        scheduler.schedule(0.0)


def test_with_warnings_as_errors_nonsense_is_no_error_of_the_policys():
    scheduler = a_scheduler(policy=Saying(lambda view: [3]))
    add(scheduler)

    with pytest.raises(PolicyWarning, match="no wish"):
        scheduler.schedule(0.0)

    assert scheduler.policy_error is None
    run(scheduler)


def test_an_error_of_any_kind_is_left_behind_by_who_is_copied():
    class Particular(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    scheduler = a_scheduler(policy=Failing(error=Particular(1, 2)))
    add(scheduler)
    with pytest.warns(PolicyWarning, match="1 and 2"):
        step(scheduler)

    twin = pickle.loads(pickle.dumps(scheduler))

    assert twin.policy_error is None and type(twin.policy) is Fcfs
    run(twin)


class Writing(Fcfs):
    """Writes to what it is given to read, once there is something."""

    def __init__(self, write: Callable, rounds: int = 3):
        self.write, self.rounds = write, rounds

    def propose(self, view):
        self.rounds -= 1
        if not self.rounds:
            self.write(view)
        yield from super().propose(view)


WRITES = {
    "no pages": lambda view: [each.pages.clear() for each in view.running],
    "others' pages": lambda view: [each.pages.append(0) for each in view.running],
    "a token less": lambda view: [each.tokens.pop() for each in everyone(view)],
    "no tokens": lambda view: [setattr(each, "tokens", None) for each in everyone(view)],
    "too far": lambda view: [setattr(each, "num_computed", 99) for each in everyone(view)],
    "paused": lambda view: [setattr(each, "is_paused", True) for each in everyone(view)],
    "finished": lambda view: [setattr(each, "status", Status.FINISHED) for each in view.running],
    "alone": lambda view: [each.family.clear() for each in view.waiting],
    "nobody waits": lambda view: view.queues.waiting.clear(),
    "nobody runs": lambda view: view.queues.running.clear(),
    "freed": lambda view: view.queues.pool.release(view.running[0].pages),
    "ended": lambda view: view.queues.finish(view.running[0], "stop", None),
}


@pytest.mark.filterwarnings("ignore::jpaged.errors.PolicyWarning")  # some stumble themselves
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_policy_that_writes_to_what_it_reads_is_accused_of_it(write):
    workload = [
        TimedRequest(str(i), 0.1 * i, tuple(range(99 * i, 99 * i + 10)), 9) for i in range(8)
    ]
    line = line_of(Writing.propose, "def propose")

    with pytest.raises(
        PolicyWrote, match=rf"books .*policy Writing \(.*{__name__}.py:{line}\).*read only"
    ):
        simulate(
            Writing(write),
            workload,
            Constant(0.1),
            num_pages=30,
            page_size=4,
            max_num_seqs=4,
            max_model_len=64,
        )


@pytest.mark.parametrize(
    "write",
    [
        lambda view: setattr(view, "running", ()),
        lambda view: setattr(everyone(view)[0], "mark", 1),
        lambda view: setattr(everyone(view)[0], "priority", 1),
        lambda view: setattr(everyone(view)[0].request, "prompt", (1,)),
    ],
)
def test_what_cannot_be_written_to_is_an_error_like_any_other(write):
    scheduler = a_scheduler(policy=Writing(write))
    sequence = add(scheduler)

    with pytest.warns(PolicyWarning, match="Writing raised .*Error"):
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


@pytest.mark.filterwarnings("ignore:.*is no wish:jpaged.errors.PolicyWarning")  # it is told
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


def failing_in(hook: str) -> Policy:
    """First come, first served, but for one method that raises."""

    def fail(self, *arguments):
        raise ZeroDivisionError(f"a slip in {hook}")

    return type("Failing", (Fcfs,), {hook: fail})()


def saying_in(hook: str, answer) -> Policy:
    """First come, first served, but for what one method answers."""
    return type("Saying", (Fcfs,), {hook: lambda self, *arguments: answer(*arguments)})()


def run_until_done(scheduler: Scheduler, most: int = 500, before_step=lambda: None) -> int:
    """Steps of a second, waits included; how many it took."""
    for now in range(most):
        if not scheduler.has_unfinished:
            return now
        before_step()
        batch = scheduler.schedule(float(now))
        if batch is not None:
            scheduler.update(batch, StepOutput.filler(batch, 7), float(now))
    raise AssertionError(f"still at work after {most} seconds")


def a_crowd(policy: Policy, **options) -> tuple[Scheduler, list[Sequence]]:
    """Five requests with common beginnings, and pages for some two of them."""
    scheduler = a_scheduler(
        num_pages=7, page_size=4, policy=policy, max_num_batched_tokens=16, **options
    )
    sequences = [
        add(scheduler, str(i), prompt=(*range(8), 100 + i), max_tokens=9) for i in range(5)
    ]
    return scheduler, sequences


HOOKS = [
    "refuse", "preempt", "wants_swap", "victim", "wake_at", "evict_rank", "on_arrival", "on_step",
    "on_finish",
]  # fmt: skip


@pytest.mark.parametrize("hook", HOOKS)
def test_a_policy_that_raises_in_any_hook_is_replaced_and_blamed(hook):
    policy = failing_in(hook)
    if hook == "wake_at":
        type(policy).propose = lambda self, view: []
    with pytest.warns(PolicyWarning, match=f"Failing raised ZeroDivisionError: a slip in {hook}"):
        scheduler, sequences = a_crowd(policy, num_host_pages=8)
        run_until_done(scheduler)

    assert type(scheduler.policy) is Fcfs
    assert all(sequence.finish_reason == "length" for sequence in sequences)
    assert scheduler.pool.num_held == 0


ANSWERS = {
    "nobody": lambda *_: None,
    "a number": lambda *_: 3.5,
    "not a number": lambda *_: math.nan,
    "for ever": lambda *_: repeat(None),
    "everyone for ever": lambda view, *_: repeat(view.running[-1] if view.running else 0),
    "text": lambda *_: "whatever",
    "a stranger": lambda *_: [a_stranger()],
    "not to be compared": lambda *_: object(),
    "never": lambda *_: math.inf,
    "long ago": lambda *_: -math.inf,
    "one for each": lambda *_: [1, "2", None, (), {}],
}


@pytest.mark.filterwarnings("ignore::jpaged.errors.PolicyWarning")
@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "refuse"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_requests_are_served_whatever_a_hook_answers(hook, answer):
    takes_view = hook in ("preempt", "wants_swap", "victim", "wake_at")
    policy = saying_in(hook, answer if takes_view else lambda *_: answer(EMPTY))
    scheduler, sequences = a_crowd(policy, num_host_pages=8)

    run_until_done(scheduler)

    assert all(sequence.finish_reason == "length" for sequence in sequences)
    assert all(len(sequence.generated) == 9 for sequence in sequences)
    assert scheduler.pool.num_held == 0


EMPTY = a_scheduler().view(0.0)


@pytest.mark.parametrize("reason", ["", "no", 0, ["why"], object()])
def test_whatever_is_not_none_refuses_and_leaves_no_trace(reason):
    scheduler = a_scheduler(policy=saying_in("refuse", lambda *_: reason))

    with pytest.raises(RequestRejected, match="request a is refused by the policy Saying"):
        add(scheduler)

    assert not scheduler.has_unfinished
    scheduler.policy = Fcfs()
    run(scheduler)
    add(scheduler)  # the same name is free


class PreemptsEverybody(Fcfs):
    def preempt(self, view):
        return view.running


@pytest.mark.parametrize("num_host_pages", [0, 64])
def test_who_preempts_everybody_always_still_serves_one_after_another(num_host_pages):
    scheduler, sequences = a_crowd(PreemptsEverybody(), num_host_pages=num_host_pages)

    run_until_done(scheduler)

    assert scheduler.policy_error is None
    assert all(len(sequence.generated) == 9 for sequence in sequences)


class NeverWakes(Fcfs):
    def propose(self, view):
        return ()

    def wake_at(self, view):
        return view.now + 1e9


def test_who_never_wakes_is_woken_after_the_longest_wait():
    workload = [TimedRequest(str(i), 0.0, (i, 1), 3) for i in range(4)]

    result = simulate(NeverWakes(), workload, Constant(0.01))

    starts = sorted(each.scheduled or 0.0 for each in result.ended)
    assert starts == pytest.approx([MOST_IDLE * i for i in (1, 2, 3, 4)], rel=0.01)


class Slow(Fcfs):
    def propose(self, view):
        for wish in super().propose(view):
            time.sleep(1e-4)
            yield wish


def test_a_slow_policy_decides_the_same():
    ran = []
    for policy in (Fcfs(), Slow()):
        scheduler, _ = a_crowd(policy)
        ran.append([counts(batch) for batch in run(scheduler)])

    assert ran[0] == ran[1]


def all_kinds(scheduler: Scheduler, num_requests: int = 12) -> list[Sequence]:
    """Requests with and without promises, of several clients, sessions and samples."""
    found = []
    for i in range(num_requests):
        request = a_request(
            f"r{i}", prompt=1 + 5 * (i % 4), max_tokens=3 + i % 5, priority=i % 3, n=1 + i % 2
        )
        terms = Terms(
            client="abc"[i % 3],
            session="xy"[i % 2],
            ttft=(None, 3.0, 30.0)[i % 3],
            tpot=(None, 1.0)[i % 2],
            deadline=(None, 99.0)[i % 2],
            predicted_tokens=(None, 5.0)[i % 2],
        )
        object.__setattr__(request, "terms", terms)
        with suppress(RequestRejected):  # as one of them may
            found += scheduler.add(request)
    return found


def a_knowing_scheduler(policy: Policy) -> Scheduler:
    """One that has buckets, costs and little memory."""
    ladder = BucketLadder.build(32, 6, 8)
    return a_scheduler(
        num_pages=14,
        page_size=4,
        policy=policy,
        max_num_seqs=6,
        max_num_batched_tokens=32,
        num_host_pages=6,
        buckets=ladder,
        costs=Costs(Constant(0.5, 0.01), ladder),
    )


@pytest.mark.parametrize("seed", range(8))
def test_policies_may_change_at_every_step_while_requests_run(seed):
    rng = random.Random(seed)
    scheduler = a_knowing_scheduler(Fcfs())
    policies = {name: resolve(name) for name in NAMES}
    sequences = all_kinds(scheduler)

    def change() -> None:
        scheduler.policy = policies[rng.choice(list(policies))]

    run_until_done(scheduler, before_step=change)

    assert scheduler.policy_error is None
    assert all(sequence.finish_reason == "length" for sequence in sequences)
    assert scheduler.pool.num_held == 0


@pytest.mark.parametrize("copy", [deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("name", NAMES)
def test_a_policy_can_be_copied_in_the_middle_and_goes_on_alike(name, copy):
    ends = []
    for copies in (False, True):
        scheduler = a_knowing_scheduler(resolve(name))
        sequences = all_kinds(scheduler)
        steps = count()

        def change(scheduler=scheduler, steps=steps, copies=copies) -> None:
            if next(steps) == 5 and copies:
                scheduler.policy = copy(scheduler.policy)

        run_until_done(scheduler, before_step=change)
        assert scheduler.policy_error is None
        ends.append([sequence.timing.tokens for sequence in sequences])

    assert ends[0] == ends[1]


class Writes(Fcfs):
    """Writes its wishes in a way of its own."""

    def __init__(self, write):
        self.write = write

    def propose(self, view):
        for sequence, most in super().propose(view):
            yield self.write(sequence, most)


@pytest.mark.parametrize("write", [lambda s, n: [s, n], lambda s, n: (s, np.int64(n))])
def test_pairs_of_other_kinds_are_wishes_too(write):
    batches = [three_waiting(policy).schedule(0.0) for policy in (Fcfs(), Writes(write))]

    plain, other = [[(s.request.id, n) for s, n in batch.items] for batch in batches if batch]
    assert len(plain) == 3 and other == plain


@pytest.mark.parametrize("write", [lambda s, n: s, lambda s, n: (s, n / 1), lambda s, n: (n, s)])
def test_what_is_no_wish_is_passed_over_and_told_once(write):
    scheduler = three_waiting(Writes(write))

    with pytest.warns(PolicyWarning, match="Writes proposed .*a wish is") as told:
        for now in range(3):
            batch = scheduler.schedule(float(now))
            assert batch is not None
            scheduler.cancel(batch)

    assert len(told) == 1 and scheduler.counsel.num_ignored >= 3


def three_waiting(policy) -> Scheduler:
    scheduler = a_scheduler(policy=policy)
    for name in "abc":
        add(scheduler, name)
    return scheduler


def test_a_policy_that_waits_for_ever_is_asked_a_few_times_only():
    """At a time whose sum with the longest wait is rounded."""

    class Patient(Fcfs):
        num_asked = 0

        def propose(self, view):
            return ()

        def wake_at(self, view):
            type(self).num_asked += 1
            assert self.num_asked < 100, "virtual time stands still"
            return view.now + 1000.0

    arrival = 30.331272607892746
    assert arrival + MOST_IDLE - arrival < MOST_IDLE
    workload = [TimedRequest("a", arrival, (1, 2), 3), TimedRequest("b", arrival + 1, (1, 3), 3)]

    result = simulate(Patient(), workload, Constant(step=1.0 / 3))

    assert len(result.ended) == 2
