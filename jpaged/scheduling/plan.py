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
        self._kept = 0  # tokens of the budget that only the eldest may use
        self._has_refused = False  # a sequence did not fit: nobody may overtake it
        self._unpromised: int | None = None  # free pages that no running sequence is waiting for

    @property
    def is_full(self) -> bool:
        """True when no further wish can be granted, except perhaps the eldest's."""
        return self.budget == 0 and self.eldest_is_served

    @property
    def eldest_is_served(self) -> bool:
        return self.eldest is None or self.eldest in self.grants

    def secure_eldest(self) -> None:
        """Keeps a page and one token of the budget for the eldest running sequence.

        Without chunking it is all it has pending: a prompt, if its first step was interrupted.
        """
        if self.eldest is not None:
            self._kept = 1 if self.can_chunk else self.eldest.num_pending
            self._reserve(self.eldest, self._kept)
            self.budget -= self._kept

    def settle(self) -> ScheduledBatch:
        """Hands the eldest its token if no wish did, and lets somebody in if all are idle."""
        if self.eldest is not None and not self.eldest_is_served:
            self.grants[self.eldest] = self._kept
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
        kept = self._kept if sequence is self.eldest else 0
        count = min(most, sequence.num_pending, self.budget + kept)
        if count < 1 or (count < sequence.num_pending and not self.can_chunk):
            if is_new:
                self._retreat(sequence, was_wished=most >= sequence.num_pending)
            return
        if self._reserve(sequence, count):
            self.grants[sequence] = count
            self.budget += kept - count  # a victim may have raised it in between

    def _admit(self, sequence: Sequence) -> bool:
        """Gives a waiting sequence a seat and the pages it finds in the prefix cache.

        All its pages must be there, although only the first chunk's are taken now: admitting a
        prompt that cannot be finished would only end in a preemption.  Nor may a smaller one
        take the place of one that did not fit: under a stream of them it would wait for ever.
        """
        queues = self.queues
        if self.preempted or self._has_refused or self.budget < 1 or not queues.num_free_seats:
            return False
        if self._unpromised is None:
            promised = sum(queues.pages_to_come(running) for running in queues.running)
            self._unpromised = queues.pool.num_free - promised
        needed = queues.admission_cost(sequence)
        # a lone sequence may always start: the pool holds any single one (checked in `add`)
        if needed > self._unpromised and queues.running:
            self._has_refused = True
            return False
        queues.admit(sequence)
        self._unpromised -= needed
        return True

    def _retreat(self, sequence: Sequence, was_wished: bool) -> None:
        """Takes an admission back.  `was_wished`: only the budget stood against it."""
        self.queues.retreat(sequence)
        self._has_refused |= was_wished
        self._unpromised = None  # its pages are free again

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
        # by identity: a policy's answer may be anything, and compare as it likes
        return next((each for each in candidates if each is chosen), candidates[-1])

    def _preempt(self, victim: Sequence) -> None:
        self.budget += self.grants.pop(victim, 0)
        self.queues.preempt(victim)
        self.preempted.append(victim)
