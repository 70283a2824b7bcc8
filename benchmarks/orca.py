"""Orca as Kwon et al. rebuilt it for comparison (SOSP 2023, section 6.1): iteration-level
scheduling, first come, first served, with every request's cache in one contiguous piece.

How long a piece must be is decided on admission, before anybody knows the output:

    max       the model's context
    pow2      the prompt and the next power of two above the output: at most twice too much
    oracle    what the request will turn out to need: all tokens but the last, which is not computed
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from buddy import Buddy, rounded

from jpaged.analysis.memory import Slots
from jpaged.simulator.lengths import CONTEXT
from jpaged.simulator.workload import TimedRequest, Workload

RESERVATIONS: dict[str, Callable[[TimedRequest], int]] = {
    "max": lambda request: CONTEXT,
    "pow2": lambda request: len(request.prompt) + rounded(request.num_output),
    "oracle": lambda request: request.num_final - 1,
}


@dataclass(eq=False)
class Running:
    """A request and its piece."""

    request: TimedRequest
    start: int
    num_asked: int
    num_given: int
    num_tokens: int = 0  # in the cache

    @property
    def num_pending(self) -> int:
        return 1 if self.num_tokens else len(self.request.prompt)

    @property
    def is_finished(self) -> bool:
        return self.num_tokens == self.num_needed

    @property
    def num_needed(self) -> int:
        """Slots it will have filled at its end; the last output is never computed."""
        return self.request.num_final - 1


class Orca:
    """Serves requests from one pool of slots."""

    def __init__(self, num_slots: int, reservation: Callable[[TimedRequest], int], max_seqs: int):
        self.buddy = Buddy(num_slots)
        self.reservation = reservation
        self.max_seqs = max_seqs
        self.waiting: deque[TimedRequest] = deque()
        self.running: list[Running] = []

    def admit(self) -> None:
        """Lets requests in, in order of arrival, until one finds no piece."""
        while self.waiting and len(self.running) < self.max_seqs:
            asked = self.reservation(self.waiting[0])
            start = self.buddy.give(asked)
            if start is None:
                assert self.running, f"{asked} slots in one piece are more than the pool has"
                return
            given = self.buddy.given[start]
            self.running.append(Running(self.waiting.popleft(), start, asked, given))

    def run(self) -> None:
        """One step: prompts whole, everybody else one token."""
        for each in self.running:
            each.num_tokens += each.num_pending

    def let_go(self) -> None:
        """Frees the pieces of those who have said everything."""
        for each in self.running:
            if each.is_finished:
                self.buddy.take_back(each.start)
        self.running = [each for each in self.running if not each.is_finished]

    def slots(self, start: float, end: float) -> Slots:
        """The accounts of a step.

        What the allocator rounds up is external, as in the paper, where the oracle has no
        internal fragmentation.  So is what is free while somebody waits, who could not use it.
        """
        tokens = sum(each.num_tokens for each in self.running)
        final = sum(each.num_needed for each in self.running)
        asked = sum(each.num_asked for each in self.running)
        given = sum(each.num_given for each in self.running)
        is_lost = bool(self.waiting) and len(self.running) < self.max_seqs
        return Slots(
            start=start,
            end=end,
            num_waiting=len(self.waiting),
            tokens=tokens,
            reserved=final - tokens,
            internal=asked - final,
            external=given - asked + is_lost * self.buddy.num_free,
            free=(not is_lost) * self.buddy.num_free,
        )


def replay_orca(
    workload: Workload, orca: Orca, seconds: Callable[[int, int], float]
) -> Iterator[Slots]:
    """Serves the workload in virtual time and yields the accounts of every step.

    seconds(tokens to compute, tokens they read): what a step takes.
    """
    to_come, now = deque(workload), 0.0
    while to_come or orca.waiting or orca.running:
        if not orca.waiting and not orca.running:  # nothing happens before the next arrival
            now = max(now, to_come[0].arrival)
        while to_come and to_come[0].arrival <= now:
            orca.waiting.append(to_come.popleft())
        orca.admit()
        start, num_new = now, sum(each.num_pending for each in orca.running)
        orca.run()
        now += seconds(num_new, sum(each.num_tokens for each in orca.running))
        yield orca.slots(start, now)
        orca.let_go()
