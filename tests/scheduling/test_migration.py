"""Sequences that go on elsewhere: the right tokens, no lost page, and the tokens counted once.

Two toy devices (`toy_device.py`) serve at random; what moves is copied page by page, as `move`
says.
"""

import random
from collections import Counter
from itertools import count
from typing import Any

import pytest
from filler import a_request, a_scheduler
from toy_device import EOS, VOCAB, ToyDevice, check_pages, check_queues, written_alone

from jpaged.errors import ConfigError, RequestRejected
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.migration import has_room, may_leave, move
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.policy import Fcfs
from jpaged.scheduling.request import Request, Sequence, Status
from jpaged.scheduling.scheduler import Scheduler
from jpaged.scheduling.view import Service

NUM_MOVES = 500


class Side:
    """A scheduler and its device.  ahead: steps that are scheduled before the last one answered."""

    def __init__(self, scheduler: Scheduler, ahead: int = 0):
        self.scheduler, self.now = scheduler, 0.0
        self.device = ToyDevice(scheduler.pool)
        self.loop = ServingLoop(scheduler, self, lambda: self.now, ahead=ahead)

    def step(self) -> None:
        self.now += 1
        self.loop.step()
        check_pages(self.scheduler)
        check_queues(self.scheduler)
        if not self.loop.is_underway:
            for sequence in self.scheduler.running:
                self.device.check_reads(sequence)

    def bucket(self, batch: ScheduledBatch) -> None:
        return None

    def submit(self, batch: ScheduledBatch) -> StepOutput:
        return self.device.run(batch)

    def collect(self, handle: StepOutput) -> StepOutput:
        return handle


def carry(sequence: Sequence, source: Side, target: Side) -> bool:
    copies = move(sequence, source.scheduler, target.scheduler)
    for page, other in copies or ():
        target.device._write(other, source.device._read(page))
    return copies is not None


class Play:
    """Two sides, and sequences that go to and fro between them at random."""

    def __init__(self, seed: int, ahead: int):
        self.rng = rng = random.Random(seed)
        shared = [tuple(rng.choices(range(VOCAB), k=20)) for _ in range(2)]
        self.to_come = [
            Request(
                id=str(i),
                prompt=rng.choice(shared)[: rng.randint(0, 20)]
                + tuple(rng.choices(range(VOCAB), k=rng.randint(1, 12))),
                params=SamplingParams(n=rng.choice((1, 1, 1, 2))),
                eos_token_ids=frozenset({EOS}),
                max_tokens=rng.randint(1, 30),
            )
            for i in range(16)
        ]
        size, window = rng.choice((1, 4, 16)), rng.choice((None, None, 7))
        sizes: dict[str, Any] = {
            "max_num_seqs": rng.choice((2, 6)),
            "max_num_batched_tokens": rng.choice((5, 40)),
        }
        hosts, has_cache = rng.choice((0, 20)), rng.random() < 0.7
        self.sides = [
            Side(
                Scheduler(
                    PagePool(-(-64 // size) + rng.choice((0, 3, 30)), size),
                    Fcfs(),
                    **sizes,
                    enable_prefix_caching=has_cache,
                    window=window,
                    num_host_pages=hosts,
                ),
                ahead,
            )
            for _ in range(2)
        ]
        self.leaving: dict[Sequence, tuple[Side, Side]] = {}
        self.sequences: list[Sequence] = []
        self.seen = Counter()

    def run(self) -> Counter:
        for _ in range(5000):
            if not self.to_come and not any(s.scheduler.has_unfinished for s in self.sides):
                self.check_end()
                return self.seen
            side, other = self.rng.sample(self.sides, 2)
            if self.to_come and self.rng.random() < 0.3:
                self.sequences += side.scheduler.add(self.to_come.pop())
            side.step()
            self.maybe_leave(side, other)
            self.try_moves()
        raise AssertionError("no end in sight")

    def maybe_leave(self, side: Side, other: Side) -> None:
        everyone = (*side.scheduler.running, *side.scheduler.waiting)
        if everyone and self.rng.random() < 0.4:
            sequence = self.rng.choice(everyone)
            side.scheduler.pause(sequence)
            self.leaving[sequence] = side, other

    def try_moves(self) -> None:
        for sequence, (source, target) in list(self.leaving.items()):
            was_running = sequence.status is Status.RUNNING
            pages = len(sequence.pages)
            has_moved = not sequence.is_finished and carry(sequence, source, target)
            if has_moved:
                self.seen += Counter(moved=1, running=was_running, pages=pages)
                assert sequence in (target.scheduler.queues)
                check_pages(source.scheduler)
                check_pages(target.scheduler)
            if has_moved or sequence.is_finished or self.rng.random() < 0.3:
                self.leaving.pop(sequence)
                source.scheduler.resume(sequence)

    def check_end(self) -> None:
        assert all(side.scheduler.pool.num_held == 0 for side in self.sides)
        for sequence in self.sequences:
            assert sequence.generated == written_alone(sequence.request)
        served = [side.scheduler.view(0.0).clients.get("", Service()) for side in self.sides]
        assert sum(each.output_tokens for each in served) == sum(
            sequence.num_generated for sequence in self.sequences
        )


@pytest.mark.parametrize("ahead", [0, 1])
def test_wherever_they_go_on_they_say_what_they_would_have_said(ahead):
    seen = Counter()
    for seed in count():
        if seen["running"] >= NUM_MOVES:
            break
        seen += Play(seed, ahead).run()
    assert seen["moved"] > seen["running"] and seen["pages"] > seen["running"]


def one_step(scheduler: Scheduler, now: float = 0.0) -> None:
    batch = scheduler.schedule(now)
    assert batch is not None
    scheduler.update(batch, StepOutput.filler(batch, 7), now)


def test_a_moved_sequence_goes_on_with_its_next_token_and_computes_nothing_again():
    source, target = a_scheduler(), a_scheduler()
    [sequence] = source.add(a_request(prompt=9, max_tokens=5))
    one_step(source)

    copies = move(sequence, source, target)

    assert copies is not None and len(copies) == 3  # 9 tokens in pages of 4
    assert (sequence.num_computed, sequence.num_pending) == (9, 1)
    assert not source.has_unfinished and source.pool.num_held == 0
    assert target.running == (sequence,) and target.pool.num_held == 3
    one_step(target)
    assert sequence.num_generated == 2


def test_pages_that_the_target_knows_are_not_copied():
    source, target = a_scheduler(), a_scheduler()
    prompt = tuple(range(10))
    for scheduler in (source, target):
        scheduler.add(a_request("a", prompt, max_tokens=9))
        one_step(scheduler)

    copies = move(source.running[0], source, target)

    assert copies is not None and len(copies) == 1  # two full ones of 4 are there
    assert target.pool.num_held == 4
    first, second = target.running
    assert first.pages[:2] == second.pages[:2] and first.pages[2] != second.pages[2]


def test_the_source_still_finds_the_prefix_of_who_has_left():
    source, target = a_scheduler(), a_scheduler()
    [sequence] = source.add(a_request("a", tuple(range(12)), max_tokens=9))
    one_step(source)
    move(sequence, source, target)

    assert source.view(0.0).num_cached_of(a_request("b", tuple(range(13)))) == 12


def test_nobody_leaves_whose_tokens_are_under_way_or_whose_relatives_stay():
    source, target = a_scheduler(), a_scheduler()
    [alone] = source.add(a_request("a"))
    batch = source.schedule(0.0)
    assert batch is not None
    source.advance(batch)
    assert not may_leave(alone, source) and move(alone, source, target) is None
    source.update(batch, StepOutput.filler(batch, 7), 0.0)
    assert may_leave(alone, source)

    first, second = source.add(a_request("b", n=2))
    assert not may_leave(first, source) and not may_leave(second, source)


@pytest.mark.parametrize("lack", ["seats", "pages", "turn"])
def test_without_room_nothing_changes(lack):
    source = a_scheduler()
    target = a_scheduler(num_pages=5, max_num_seqs=1 if lack == "seats" else 8)
    [sequence] = source.add(a_request("a", prompt=9, max_tokens=5))
    one_step(source)
    if lack == "turn":  # who waits there comes first
        target.add(a_request("b"))
    else:
        target.add(a_request("b", prompt=4 if lack == "seats" else 9, max_tokens=9))
        one_step(target)

    assert not has_room(target, sequence) and move(sequence, source, target) is None
    assert source.running == (sequence,) and sequence.num_computed == 9


def test_who_waits_goes_behind_those_who_wait_there():
    source, target = a_scheduler(), a_scheduler()
    [sequence] = source.add(a_request("a"))
    target.add(a_request("b"))
    assert move(sequence, source, target) == ()
    assert [each.request.id for each in target.waiting] == ["b", "a"]
    assert not source.waiting


def test_the_paused_keep_their_pages_though_others_wait():
    scheduler = a_scheduler(num_pages=3)
    [sequence] = scheduler.add(a_request("a", prompt=9, max_tokens=3))
    one_step(scheduler)
    scheduler.pause(sequence)
    scheduler.add(a_request("b", prompt=9, max_tokens=3))
    assert scheduler.schedule(1.0) is None
    assert sequence.status is Status.RUNNING and len(sequence.pages) == 3

    scheduler.resume(sequence)
    assert scheduler.schedule(2.0) is not None


def test_pages_of_another_size_are_refused():
    source, target = a_scheduler(page_size=4), a_scheduler(page_size=8)
    [sequence] = source.add(a_request())
    with pytest.raises(ConfigError, match="pages of 4 tokens .* have 8"):
        move(sequence, source, target)


def test_who_can_never_fit_there_is_refused():
    source, target = a_scheduler(), a_scheduler(num_pages=2)
    [sequence] = source.add(a_request(prompt=9))
    with pytest.raises(RequestRejected, match="the cache holds 8"):
        move(sequence, source, target)
    assert source.waiting == (sequence,)
