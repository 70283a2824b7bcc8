"""Whatever the policy, the pool and the requests: right tokens, no lost page, an end.

Each test plays random scenarios for a few thousand steps under one kind of policy and checks every
step with the bookkeeping of `toy_device.py`, which shares no code with the scheduler.
"""

import math
import random
from collections import Counter
from itertools import count
from typing import Any

import pytest
from toy_device import (
    EOS,
    VOCAB,
    ToyDevice,
    check_batch,
    check_pages,
    check_queues,
    check_writes,
    random_windows,
    written_alone,
)

from jpaged.policies import (
    FastServe,
    Fcfs,
    Headroom,
    LeastComputed,
    LongestPrefixMatch,
    Orca,
    PrefillFirst,
    Priority,
    Sarathi,
    ShortestFirst,
    ShortestRemaining,
    Static,
)
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler

STEPS_PER_POLICY = 5000


class Random(Fcfs):
    """Any order, any chunk, any victim: also those who wait, the eldest, and nobody."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def propose(self, view):
        everyone = [*view.running, *view.waiting]
        self.rng.shuffle(everyone)
        yield from ((sequence, self.rng.choice((-1, 1, 2, 7, 64))) for sequence in everyone)

    def victim(self, view):
        return self.rng.choice((*view.running, *view.waiting, None))


class Raising(Random):
    """Raises now and then, in the midst of its wishes or asked for a victim."""

    def propose(self, view):
        for wish in super().propose(view):
            if self.rng.random() < 0.1:
                raise RuntimeError("a slip")
            yield wish

    def victim(self, view):
        return view.running[self.rng.randrange(2 * len(view.running))]


class LastInFirstOut(Random):
    def propose(self, view):
        everyone = (*view.running, *view.waiting)
        return [(s, s.num_pending) for s in reversed(everyone)]

    def victim(self, view):
        return view.running[0]


class Greedy(Random):
    """Everybody in at once, the largest first: the tightest memory."""

    def propose(self, view):
        everyone = sorted((*view.waiting, *view.running), key=lambda s: -s.num_pending)
        return [(s, s.num_pending) for s in everyone]


class Silent(Random):
    def propose(self, view):
        return []


class OneToken(Random):
    def propose(self, view):
        return [(self.rng.choice((*view.running, *view.waiting)), 1)]


class Nonsense(Random):
    """Strangers, finished sequences, wrong types, and the same one again and again."""

    def __init__(self, rng: random.Random):
        super().__init__(rng)
        self.seen: set[Sequence] = set()

    def propose(self, view):
        self.seen |= {*view.running, *view.waiting}
        known = sorted(self.seen, key=lambda s: s.serial)
        for _ in count():
            sequence = self.rng.choice(known)
            yield self.rng.choice([(sequence, 3), (sequence, 3.0), sequence, None, (3, sequence)])


class Moody(Random):
    """Sends anybody away, wants to sleep, and contradicts itself."""

    def preempt(self, view):
        if self.rng.random() < 0.1:
            yield from self.rng.choices((*view.running, *view.waiting, None, "you"), k=3)

    def propose(self, view):
        return super().propose(view) if self.rng.random() < 0.5 else []

    def wake_at(self, view):
        now = view.now
        return self.rng.choice((None, now - 1, now + 2, now + 1e9, math.nan, math.inf, "later"))

    def wants_swap(self, view, victim):
        return self.rng.choice((None, True, False, "perhaps"))

    def evict_rank(self, page):
        return self.rng.random()


class Sulky(Moody):
    """The same, and raises whenever it is told anything, now and then."""

    def slip(self):
        if self.rng.random() < 0.05:
            raise RuntimeError("who asked?")

    def on_step(self, batch, now):
        self.slip()

    def on_arrival(self, sequence, now):
        self.slip()

    def on_finish(self, sequence, now):
        self.slip()

    def evict_rank(self, page):
        return "nonsense" if self.rng.random() < 0.1 else 0.0


KINDS = (Random, Raising, LastInFirstOut, Greedy, Silent, OneToken, Nonsense, Moody, Sulky)
# seldom run out of pages
RESERVED = {"headroom": lambda rng: Headroom(rng.choice((0, 1, 4))), "orca": lambda rng: Orca()}
POLICIES = (
    {
        "fcfs": lambda rng: Fcfs(),
        "priority": lambda rng: Priority(),
        "shortest": lambda rng: ShortestFirst(chunk=rng.choice((1, 8, 512))),
        "sarathi": lambda rng: Sarathi(chunk=rng.choice((1, 8, 512))),
        "prefill_first": lambda rng: PrefillFirst(),
        "srpt": lambda rng: ShortestRemaining(aging=rng.choice((0.0, 5.0))),
        "fastserve": lambda rng: FastServe(quantum=rng.choice((1, 4)), patience=8.0),
        "lpm": lambda rng: LongestPrefixMatch(probes=rng.choice((1, 8))),
        "least_computed": lambda rng: LeastComputed(),
        "static": lambda rng: Static(),
    }
    | RESERVED
    | {kind.__name__: kind for kind in KINDS}
)


class Play:
    """One random scenario: a pool, a stream of requests, aborts and interruptions."""

    def __init__(self, seed: int, make_policy):
        self.rng = random.Random(seed)
        self.policy: Policy = make_policy(self.rng)
        self.requests = self._make_requests()
        self.scheduler = self._make_scheduler()
        self.device = ToyDevice(self.scheduler.pool)
        self.sequences: list[Sequence] = []
        self.now = 0.0
        self.seen = Counter(steps=0, dropped=0, preempted=0, cached=0, aborted=0)

    def _make_requests(self) -> list[Request]:
        rng = self.rng
        shared = [tuple(rng.choices(range(VOCAB), k=rng.choice((0, 9, 32)))) for _ in range(3)]
        return [
            Request(
                id=str(i),
                prompt=rng.choice(shared)[: rng.randint(0, 40)]
                + tuple(rng.choices(range(VOCAB), k=rng.randint(1, rng.choice((3, 20))))),
                params=SamplingParams(n=rng.choice((1, 1, 1, 3))),
                priority=rng.randint(0, 3),
                eos_token_ids=frozenset({EOS}),
                max_tokens=rng.randint(1, rng.choice((8, 60))),
            )
            for i in range(rng.randint(2, 24))
        ]

    def _make_scheduler(self) -> Scheduler:
        rng, page_size = self.rng, self.rng.choice((1, 4, 16))
        longest = max(len(r.prompt) + r.max_tokens for r in self.requests)
        is_chunked = rng.random() < 0.7
        sizes: dict[str, Any] = {"max_num_seqs": rng.choice((1, 3, 8, 16))}
        budget = rng.choice((2, 9, 33, 64)) + (0 if is_chunked else longest)
        sizes["max_num_batched_tokens"] = budget
        window = rng.choice((None, None, 1, 7, 20))
        windows = random_windows(rng, window, page_size, *sizes.values())
        # from just enough for the longest to plenty for all
        num_pages = -(-longest // page_size) + rng.choice((0, 1, 3, 12))
        return Scheduler(
            PagePool(num_pages, page_size, windows=windows),
            self.policy,
            **sizes,
            enable_prefix_caching=rng.random() < 0.7,
            enable_chunked_prefill=is_chunked,
            window=window,
            num_host_pages=rng.choice((0, 3, 20, 200)),
        )

    def run(self) -> Counter:
        """Plays to the end.  Every step the eldest moves on, which bounds their number."""
        most = self.most_steps()
        to_come = list(self.requests)
        while to_come or self.scheduler.has_unfinished:
            if to_come and (self.rng.random() < 0.4 or not self.scheduler.has_unfinished):
                self.sequences += self.scheduler.add(to_come.pop())
            self.step()
            assert self.seen["steps"] - self.seen["dropped"] <= most, "no end in sight"
            most += self.seen["cancelled"] * 100  # its sequences begin anew
            self.seen["cancelled"] = 0
        self.check_end()
        return self.seen

    def most_steps(self) -> int:
        return sum(r.params.n * (len(r.prompt) + r.max_tokens) for r in self.requests)

    def step(self) -> None:
        rng, scheduler = self.rng, self.scheduler
        scheduler.policy = self.policy  # one that raised was replaced, and comes back
        self.maybe_abort()
        running_before = scheduler.running
        self.now += 1
        batch = scheduler.schedule(self.now)
        if batch is None:
            waits = scheduler.wake_at is not None
            assert waits or not scheduler.has_unfinished, "nobody is let in"
            return
        output = self.run_batch(batch, running_before)
        if rng.random() < 0.02:
            self.seen += Counter(dropped=1, cancelled=1)  # nobody heard what the step answered
            scheduler.cancel(batch)
            return
        self.maybe_abort()
        scheduler.update(batch, output, self.now)
        self.check_state()

    def run_batch(self, batch: ScheduledBatch, running_before: tuple[Sequence, ...]) -> StepOutput:
        check_batch(self.scheduler, batch, running_before, next(iter(running_before), None))
        check_writes(self.scheduler, batch)
        self.check_state(has_run=False)
        self.note(batch)
        return self.device.run(batch)

    def note(self, batch: ScheduledBatch) -> None:
        back = sum(bool(pages) for _, _, pages in batch.swap_ins)
        self.seen += Counter(steps=1, preempted=len(batch.preempted), swapped_in=back)

    def maybe_abort(self) -> None:
        if self.rng.random() < 0.01:
            self.seen["aborted"] += len(self.scheduler.abort(str(self.rng.randrange(24))))

    def check_state(self, has_run: bool = True) -> None:
        check_pages(self.scheduler)
        check_queues(self.scheduler)
        if not has_run:  # what one sequence writes in a step, others may count on already
            return
        for sequence in self.scheduler.running:
            self.device.check_reads(sequence)

    def check_end(self) -> None:
        assert self.scheduler.pool.num_held == 0
        for sequence in self.sequences:
            expected = written_alone(sequence.request)
            if sequence.finish_reason == "abort":
                expected = expected[: len(sequence.generated)]
            assert sequence.generated == expected
            self.seen["cached"] += sequence.num_cached


class Slip(Exception):
    """Something outside the scheduler went wrong."""


class PlayAhead(Play):
    """The same, one step ahead: a batch is scheduled before the one before it has answered."""

    def __init__(self, seed: int, make_policy):
        super().__init__(seed, make_policy)
        self.loop = ServingLoop(self.scheduler, self, lambda: self.now, ahead=1)
        self.before: tuple[Sequence, ...] = ()
        self.eldest: Sequence | None = None
        schedule = self.scheduler.schedule

        def remembering(now: float) -> ScheduledBatch | None:
            self.before = tuple(s for s in self.scheduler.running)
            self.eldest = next((s for s in self.before if s.num_pending), None)
            return schedule(now)

        self.scheduler.schedule = remembering

    def step(self) -> None:
        self.scheduler.policy = self.policy
        self.now += 1
        self.maybe_abort()
        try:
            self.loop.step()
        except Slip:
            self.seen["dropped"] += 1
        self.check_state()

    def most_steps(self) -> int:
        """Whoever stops computes a token too many."""
        return super().most_steps() + sum(request.params.n for request in self.requests)

    def submit(self, batch: ScheduledBatch) -> StepOutput:
        """The toy device runs at once; what it said is heard a step later."""
        if self.rng.random() < 0.02:
            self.seen["cancelled"] += 1
            raise Slip("before the device got it")
        check_batch(self.scheduler, batch, self.before, self.eldest)
        check_writes(self.scheduler, batch)
        self.note(batch)
        return self.device.run(batch)

    def collect(self, handle: StepOutput) -> StepOutput:
        if self.rng.random() < 0.02:
            raise Slip("while somebody waited")
        self.maybe_abort()
        return handle

    def bucket(self, batch: ScheduledBatch) -> None:
        return None


@pytest.mark.filterwarnings("ignore::jpaged.errors.PolicyWarning")
@pytest.mark.parametrize("play", [Play, PlayAhead])
@pytest.mark.parametrize("make_policy", POLICIES.values(), ids=POLICIES)
def test_requests_are_served_rightly_whatever_the_policy(make_policy, play):
    seen = Counter()
    for seed in count():
        if seen["steps"] >= STEPS_PER_POLICY:
            break
        seen += play(seed, make_policy).run()

    print(f"{seed} scenarios: {dict(seen)}")
    assert all(seen[what] for what in ("dropped", "cached", "aborted"))
    if make_policy is Silent:  # who is alone with the device is never preempted
        assert not seen["preempted"]
    elif make_policy not in RESERVED.values():
        assert seen["preempted"] and seen["swapped_in"]


def test_the_policies_are_tried_for_twenty_thousand_steps_in_all():
    assert STEPS_PER_POLICY * len(POLICIES) >= 20_000
