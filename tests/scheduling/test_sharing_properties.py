"""Copy-on-write under fire: forks, writes, drops and preemptions at random, on few pages.

A searcher stands outside the scheduler as a user would: it forks, extends and drops sequences
between steps.  What each is told must be what it would be told alone, with pages of its own: the
toy device makes it from what it *reads*, so one page written under a reader shows.
"""

import random
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from toy_device import (
    EOS,
    ROOT,
    VOCAB,
    ToyDevice,
    check_pages,
    check_queues,
    check_writes,
    digest,
    random_windows,
    written_alone,
)

from jpaged.policies import Fcfs, PrefillFirst, Sarathi, ShortestFirst
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler

MOVES = 20_000
MOST_ALIVE = 14


def told_alone(tokens: list[int]) -> int:
    state = ROOT
    for token in tokens:
        state = digest(state, token)
    return state % VOCAB


class Search:
    """One random scenario.  It is the loop's executor, too."""

    def __init__(self, seed: int, ahead: int):
        self.rng = rng = random.Random(seed)
        size = rng.choice((1, 2, 4, 16))
        self.most_tokens = rng.choice((12, 40))
        longest = 30 + self.most_tokens
        sizes: dict[str, Any] = {"max_num_seqs": rng.choice((2, 5, 20))}
        sizes["max_num_batched_tokens"] = rng.choice((20, 40, 100))
        window = rng.choice((None, None, 1, 7, 20))
        windows = random_windows(rng, window, size, *sizes.values())
        num_pages = -(-longest // size) + rng.choice((0, 2, 7, 40))
        self.scheduler = Scheduler(
            PagePool(num_pages, size, windows=windows),
            rng.choice((Fcfs(), PrefillFirst(), Sarathi(chunk=8), ShortestFirst(aging=0.0))),
            **sizes,
            enable_prefix_caching=rng.random() < 0.6,
            window=window,
            num_host_pages=rng.choice((0, 10, 100)),
        )
        self.device = ToyDevice(self.scheduler.pool)
        self.loop = ServingLoop(self.scheduler, self, lambda: 0.0, ahead=ahead)
        self.alive: list[Sequence] = []
        self.ended: list[Sequence] = []
        self.answered: set[Sequence] = set()
        self.names = count()
        self.seen: Counter[str] = Counter()

    def bucket(self, batch: ScheduledBatch) -> None:
        return None

    def submit(self, batch: ScheduledBatch) -> StepOutput:
        check_writes(self.scheduler, batch)
        writes_shared = sum(source != target for source, target in batch.page_copies)
        self.seen += Counter(preempted=len(batch.preempted), copied=writes_shared)
        self.seen["swapped in"] += sum(bool(pages) for _, _, pages in batch.swap_ins)
        return self.device.run(batch)

    def collect(self, handle: StepOutput) -> StepOutput:
        return handle

    def run(self, moves: int) -> Counter[str]:
        idle = 0
        while self.seen["moves"] < moves:
            self.move()
            self.seen["moves"] += 1
            before = self.loop.num_steps
            advanced, output, batch = self.loop.step()
            self.check(advanced, output, batch)
            idle = 0 if self.loop.num_steps > before or self.answered else idle + 1
            assert idle < 3, "everybody waits for somebody"
        for sequence in list(self.alive):
            self.drop(sequence)
        while self.loop.step()[2] is not None:
            pass
        assert self.scheduler.pool.num_held == 0 and not self.scheduler.has_unfinished
        for sequence in self.ended:
            said = sequence.generated
            if not sequence.is_steered:
                assert said == written_alone(sequence.request)[: len(said)]
        return self.seen

    def move(self) -> None:
        rng = self.rng
        if len(self.alive) < 2 or (rng.random() < 0.1 and len(self.alive) < MOST_ALIVE):
            self.begin()
        for sequence in [s for s in self.alive if s in self.answered and rng.random() < 0.8]:
            self.steer(sequence)
        others = [s for s in self.alive if s not in self.answered]
        if others and rng.random() < 0.1:  # in the midst of whatever they are doing
            sequence = rng.choice(others)
            if not sequence.is_steered and rng.random() < 0.7 and len(self.alive) < MOST_ALIVE:
                self.fork(sequence)
            else:
                self.drop(sequence)

    def begin(self) -> None:
        rng = self.rng
        common = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3)[: rng.choice((0, 5, 16))]
        request = Request(
            id=str(next(self.names)),
            prompt=common + tuple(rng.choices(range(VOCAB), k=rng.randint(1, 12))),
            params=SamplingParams(n=rng.choice((1, 4))),
            eos_token_ids=frozenset({EOS}),
            max_tokens=self.most_tokens,
        )
        self.alive += self.scheduler.add(request, is_steered=rng.random() < 0.6)

    def steer(self, sequence: Sequence) -> None:
        """What a search does: goes on in some ways, or not at all."""
        self.answered.discard(sequence)
        if sequence.num_generated >= self.most_tokens - 1 or self.rng.random() < 0.15:
            self.drop(sequence)
            return
        ways = self.rng.choice((1, 1, 2, 3)) if len(self.alive) < MOST_ALIVE else 1
        branches = [sequence, *(self.fork(sequence) for _ in range(ways - 1))]
        for branch in branches:
            self.scheduler.extend(branch, self.rng.randrange(VOCAB))

    def fork(self, sequence: Sequence) -> Sequence:
        request = replace(sequence.request, id=str(next(self.names)))
        child = self.scheduler.fork(sequence, request)
        self.seen["forked"] += 1
        self.alive.append(child)
        return child

    def drop(self, sequence: Sequence) -> None:
        self.scheduler.finish(sequence, "abort")
        self.alive.remove(sequence)
        self.answered.discard(sequence)
        self.ended.append(sequence)
        self.seen["dropped"] += 1

    def check(self, advanced: list[Sequence], output: StepOutput | None, batch) -> None:
        rows = {} if batch is None else {s: row for row, (s, _) in enumerate(batch.items)}
        for sequence in advanced:
            assert output is not None
            if sequence.is_steered:
                assert output.tokens[rows[sequence]] == told_alone(sequence.tokens)
                self.answered.add(sequence)
            elif sequence.is_finished:
                self.alive.remove(sequence)
                self.ended.append(sequence)
        check_pages(self.scheduler)
        check_queues(self.scheduler)
        for sequence in self.scheduler.running:
            self.device.check_reads(sequence)


@pytest.mark.parametrize("ahead", [0, 1])
def test_every_branch_is_told_what_it_would_be_told_alone(ahead):
    seen = Counter()
    for seed in count():
        if seen["moves"] >= MOVES // 2:
            break
        seen += Search(seed, ahead).run(moves=200)

    print(f"{seed} searches: {dict(seen)}")
    assert min(seen[what] for what in ("forked", "copied", "dropped", "preempted")) > 300
    assert seen["swapped in"] > 100
