"""One step in the making: wishes go in, a batch comes out.

    secure_eldest ─► grant, grant, grant … ─► settle ─► ScheduledBatch

Pages are reserved as wishes are granted.  Where they run out a victim is preempted: it gives up
its pages, returns to the waiting and is computed anew later (its tokens are kept).
"""

from collections.abc import Callable

from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.queues import Queues
from jpaged.scheduling.request import Sequence

ChooseVictim = Callable[[], Sequence]


class StepPlan:
    """Grants wishes within one step's token budget, seats and pages.

    `choose_victim()` names a running sequence; an answer that breaks the rules is replaced by
    the youngest.
    """

    def __init__(self, queues: Queues, choose_victim: ChooseVictim, budget: int, can_chunk: bool):
        self.queues = queues
        self.choose_victim = choose_victim
        self.budget = budget
        self.can_chunk = can_chunk
        self.grants: dict[Sequence, int] = {}
        self.preempted: list[Sequence] = []
        self.eldest = queues.running[0] if queues.running else None
        self._unpromised: int | None = None  # free pages that no running sequence is waiting for

    @property
    def is_full(self) -> bool:
        """True when no further wish can be granted, except perhaps the eldest's."""
        return self.budget == 0 and self.eldest_is_served

    @property
    def eldest_is_served(self) -> bool:
        return self.eldest is None or self.eldest in self.grants

    def secure_eldest(self) -> None:
        """Keeps a page and one token of the budget for the eldest running sequence."""
        if self.eldest is not None:
            self._reserve(self.eldest, 1)
            self.budget -= 1

    def settle(self) -> ScheduledBatch:
        """Hands the eldest its token if no wish did, and lets somebody in if all are idle."""
        if self.eldest is not None and not self.eldest_is_served:
            self.grants[self.eldest] = 1
        if not self.grants and self.queues.waiting:
            first = self.queues.waiting[0]
            self.grant(first, first.num_pending)
        return ScheduledBatch(tuple(self.grants.items()), tuple(self.preempted))

    def grant(self, sequence: Sequence, most: int) -> None:
        """Runs up to `most` pending tokens of the sequence, if budget, seats and pages allow."""
        if sequence in self.grants or most < 1 or sequence not in self.queues:
            return
        is_new = sequence in self.queues.waiting_set
        if is_new and not self._admit(sequence):
            return
        budget = self.budget + (sequence is self.eldest)  # the token that was kept for it
        count = min(most, sequence.num_pending, budget)
        if count < 1 or (count < sequence.num_pending and not self.can_chunk):
            if is_new:
                self.queues.retreat(sequence)
            return
        if self._reserve(sequence, count):
            self.grants[sequence] = count
            self.budget = budget - count

    def _admit(self, sequence: Sequence) -> bool:
        """Gives a waiting sequence a seat and the pages it finds in the prefix cache.

        All its pages must be there, although only the first chunk's are taken now: admitting a
        prompt that cannot be finished would only end in a preemption.
        """
        queues = self.queues
        if self.preempted or self.budget < 1 or not queues.num_free_seats:
            return False
        if self._unpromised is None:
            promised = sum(queues.pages_to_come(running) for running in queues.running)
            self._unpromised = queues.pool.num_free - promised
        needed = queues.admission_cost(sequence)
        # a lone sequence may always start: the pool holds any single one (checked in `add`)
        if needed > self._unpromised and queues.running:
            return False
        queues.admit(sequence)
        self._unpromised -= needed
        return True

    def _reserve(self, sequence: Sequence, count: int) -> bool:
        """Takes the pages for `count` more tokens, from others where none are free."""
        pool = self.queues.pool
        needed = pool.pages_for(sequence.num_computed + count) - len(sequence.pages)
        while needed > pool.num_free:
            victim = self._victim()
            self._preempt(victim)
            if victim is sequence:
                return False
        if needed > 0:
            sequence.pages += pool.allocate(needed)
        return True

    def _victim(self) -> Sequence:
        chosen = self.choose_victim()
        candidates = self.queues.running[1:]
        assert candidates, "the eldest sequence alone does not fit; `add` should have refused it"
        return chosen if chosen in candidates else candidates[-1]

    def _preempt(self, victim: Sequence) -> None:
        self.budget += self.grants.pop(victim, 0)
        self.queues.preempt(victim)
        self.preempted.append(victim)
