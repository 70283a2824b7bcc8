"""One step in the making: wishes go in, a batch comes out.

    secure_eldest ─► grant, grant, grant … ─► settle ─► ScheduledBatch

Pages are reserved as wishes are granted.  Where they run out a victim is preempted: it gives up
its pages and returns to the waiting.  Later it is computed anew, from the tokens it has, or its
pages are brought back from the host.

A page that a granted sequence will fill is *promised*: those after it may share it in the same
step, because a step writes all its keys and values before it reads any.  So requests that arrive
together compute their common prefix once, and n samples their prompt.

Nobody writes into a page that others read: whoever is about to gets a copy (copy-on-write), made
before the step.
"""

from collections.abc import Callable, Iterable

from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.moves import Moves
from jpaged.scheduling.queues import Queues
from jpaged.scheduling.request import Sequence, Status
from jpaged.scheduling.sharing import Found

ChooseVictim = Callable[[], Sequence]
WantsSwap = Callable[[Sequence], bool]


class StepPlan:
    """Grants wishes within one step's token budget, seats and pages.

    `choose_victim()` names a running sequence; an answer that breaks the rules is replaced by
    the youngest.  `wants_swap(victim)`: whether its pages go to the host, if there is room.
    """

    def __init__(
        self,
        queues: Queues,
        choose_victim: ChooseVictim,
        wants_swap: WantsSwap,
        budget: int,
        can_chunk: bool,
    ):
        self.queues = queues
        self.choose_victim = choose_victim
        self.wants_swap = wants_swap
        self.budget = budget
        self.can_chunk = can_chunk
        self.grants: dict[Sequence, int] = {}
        self.promised: dict[Sequence, list[int]] = {}
        self.moves = Moves(queues.pool)
        self.preempted: list[Sequence] = []
        self.admitted: list[Sequence] = []
        # who only waits for an expected token needs nothing
        self.eldest = next((s for s in queues.running if s.num_pending > 0), None)
        self._page_size = queues.pool.page_size
        self._writers: set[Sequence] = set()  # others share what they write in this step
        self._has_rereads = False
        queues.sharing.begin_step()
        self._kept = 0  # tokens the eldest has been granted before any wish for it
        self._has_refused = False  # a sequence did not fit: nobody may overtake it
        self.is_closed = False  # nobody more is let in
        self._unpromised: int | None = None  # free pages that no running sequence is waiting for

    @property
    def is_full(self) -> bool:
        """True when no further wish can be granted."""
        is_everybody = self.is_closed and len(self.grants) == len(self.queues.running)
        return not self._kept and (self.budget == 0 or is_everybody)

    def secure_eldest(self) -> None:
        """Grants one token to the eldest running sequence; a wish may make it more.

        Without chunking it is all it has pending: a prompt, if its first step was interrupted.
        """
        if self.eldest is not None:
            self.queues.take_cached(self.eldest)  # before a page is reserved for the same tokens
            self._kept = 1 if self.can_chunk else self.eldest.num_pending
            has_pages = self._reserve(self.eldest, self._kept)
            assert has_pages, "the eldest alone does not fit; `add` should have refused it"
            self.budget -= self._kept
            self._enter(self.eldest, self._kept)

    def send_away(self, sequences: Iterable[Sequence]) -> None:
        """Preempts those of them that may be: not the eldest."""
        for sequence in sequences:
            if sequence is not self.eldest and sequence.status is Status.RUNNING:
                self._preempt(sequence)

    def settle(self) -> ScheduledBatch:
        """The batch.  Somebody is let in if all are idle."""
        if not self.grants and self.queues.waiting:
            self._let_in()
        moves = self.moves
        for sequence in moves.returning:
            self.queues.leave_host(sequence)
        return ScheduledBatch(
            tuple(self.grants.items()),
            tuple(self.preempted),
            moves.outs(),
            moves.copies(),
            moves.ins(),
            self._has_rereads,
            moves.placed(),
        )

    def _let_in(self) -> None:
        """Admits the first who waits where nobody runs; where all who run are paused, as many as
        there is room for if these leave, but for those who are about to go elsewhere.

        Not while an answer is under way: then somebody will go on soon.
        """
        running, evicted = self.queues.running, []
        if not all(sequence.is_paused and not sequence.num_expected for sequence in running):
            return
        waiting = [each for each in self.queues.waiting if each.num_pending]
        for sequence in waiting if running else waiting[:1]:
            self.grant(sequence, sequence.num_pending)
            paused = [each for each in running if each.is_paused and each.is_steered]
            while sequence not in self.grants and paused and self.budget:
                evicted.append(paused.pop())
                self._has_refused, self._unpromised = False, None
                self._send_away(evicted[-1])
                self.grant(sequence, sequence.num_pending)
            if sequence not in self.grants:
                break
        self.preempted += evicted

    def grant(self, sequence: Sequence, most: int) -> None:
        """Runs up to `most` pending tokens of the sequence, if budget, seats and pages allow."""
        kept = self._kept if sequence is self.eldest else 0
        pending = sequence.num_pending
        if most < 1 or pending < 1 or (sequence in self.grants and not kept):
            return
        is_new = sequence.status is not Status.RUNNING
        if is_new and (sequence not in self.queues or not self._admit(sequence)):
            is_crowded = self._has_refused or not self.queues.num_free_seats
            self.is_closed = is_crowded or bool(self.preempted)
            return
        if pending > 1 and not is_new and not kept:
            self.queues.take_cached(sequence)  # what others have computed meanwhile
        if pending > 1:
            pending = sequence.num_pending
        room = self.budget + kept
        count = pending if pending < most else most  # `min` would be a quarter of this function
        count = count if count < room else room
        if count < 1 or (count < pending and not self.can_chunk):
            if is_new:
                self._retreat(sequence, was_wished=most >= pending)
            return
        upto = sequence.num_computed + count
        # most often: one more token, in a page that is there
        has_page = upto <= len(sequence.pages) * self._page_size and not sequence.shares_tail
        if has_page or self._reserve(sequence, count):
            self.budget += kept - count  # a victim may have raised it in between
            self._kept -= kept
            self._enter(sequence, count)
        elif is_new and sequence.status is Status.RUNNING:
            self._retreat(sequence, was_wished=False)

    def _enter(self, sequence: Sequence, count: int) -> None:
        """Grants it.  Others may find the pages that will be full after this step."""
        self._has_rereads |= sequence.is_reread
        self.grants[sequence] = count
        upto = sequence.num_computed + count
        if upto // self._page_size > sequence.num_remembered:
            pages = self.queues.remember_full_pages(sequence, upto)
            self.promised.setdefault(sequence, []).extend(pages)
            self.queues.sharing.in_the_making.update(pages)

    def _admit(self, sequence: Sequence) -> bool:
        """Gives a waiting sequence a seat and the pages it finds in the prefix cache.

        All its pages must be there, although only the first chunk's are taken now: admitting a
        prompt that cannot be finished would only end in a preemption.  Nor may a smaller one
        take the place of one that did not fit: under a stream of them it would wait for ever.
        """
        queues = self.queues
        if self.preempted or self._has_refused or self.budget < 1 or not queues.num_free_seats:
            return False
        if sequence.num_expected:  # preempted in this moment: its token is about to be known
            return False
        if queues.sharing.awaits_relative(sequence, self.grants):
            return False
        if self._unpromised is None:
            promised = sum(queues.pages_to_come(running) for running in queues.running)
            self._unpromised = queues.pool.num_free - promised
        found = queues.sharing.find(sequence, self.grants)
        if sequence.num_swapped > found.num_tokens:
            found = self._beside_host(sequence, found)
        needed = queues.admission_cost(sequence, found)
        # a lone sequence may always start: the pool holds any single one (checked in `add`)
        if needed > self._unpromised and queues.running:
            self._has_refused = True
            return False
        queues.admit(sequence, found)
        if sequence.num_swapped > found.num_tokens:
            first = len(sequence.pages)
            self.moves.bring_in(sequence, first, queues.bring_back(sequence))
        elif sequence.num_swapped:
            self.moves.bring_in(sequence, 0, ())
        if found.num_there < found.num_tokens:
            queues.sharing.num_there[sequence] = found.num_there
        if found.writer is not None:
            self._writers.add(found.writer)
        self.admitted.append(sequence)
        self._unpromised -= needed
        return True

    def _beside_host(self, sequence: Sequence, found: Found) -> Found:
        """The full pages that need not come from the host."""
        if sequence.num_swapped_passed:  # then the host has all that is still read
            return Found([], 0, 0)
        pages = found.pages[: found.num_tokens // self._page_size]
        pages = pages[: self.queues.pool.num_in_sight(pages)]
        count = len(pages) * self._page_size
        return Found(pages, count, min(found.num_there, count), found.writer)

    def _retreat(self, sequence: Sequence, was_wished: bool) -> None:
        """Takes an admission back.  `was_wished`: only the budget stood against it."""
        self.moves.take_back(sequence)
        self.queues.retreat(sequence)
        self._has_refused |= was_wished
        self._unpromised = None  # its pages are free again

    def _reserve(self, sequence: Sequence, count: int) -> bool:
        """Takes the pages for `count` more tokens, from others where none are free."""
        queues, pool = self.queues, self.queues.pool
        more = max(0, pool.pages_for(sequence.num_computed + count) - len(sequence.pages))
        # who was granted a token has its pages to itself, and others build on what it writes
        writes = count > sequence.is_reread and sequence not in self.grants
        while True:
            shared = queues.page_to_copy(sequence) if writes else None
            # a page that only the cache knows beside us is free as soon as we let it go
            copies = shared is not None and pool.holders[sequence.pages[shared]] > 1
            if more + copies <= pool.num_free:
                break
            victim = self._victim()
            if victim is not None:
                self._preempt(victim)
            if victim is sequence or victim is None:
                return False
        if shared is not None:
            self._copy(sequence, shared)
        if writes:
            sequence.shares_tail = False
        if more:
            sequence.pages += pool.allocate(more)
        return True

    def _copy(self, sequence: Sequence, place: int) -> None:
        """Gives the sequence a copy of one of its pages."""
        pool, source = self.queues.pool, sequence.pages[place]
        numbers = pool.numbers(source)
        for places in pool.windows:
            places.leave([source], pool.remembered)
        pool.release([source])
        [target] = pool.allocate(1)  # perhaps the very same
        self.moves.copy(sequence, numbers, target)
        self.queues.sharing.in_the_making.add(target)
        sequence.pages = [*sequence.pages[:place], target, *sequence.pages[place + 1 :]]

    def _victim(self) -> Sequence | None:
        """Whom the policy names, or the youngest; never the eldest, nor one that others read."""
        chosen = self.choose_victim()
        holders = self.queues.pool.holders
        candidates = [
            each
            for each in self.queues.running
            if each is not self.eldest
            and each not in self._writers
            and all(holders[page] == 1 for page in self.promised.get(each, ()))
        ]
        # by identity: a policy's answer may be anything, and compare as it likes
        youngest = candidates[-1] if candidates else None
        return next((each for each in candidates if each is chosen), youngest)

    def _preempt(self, victim: Sequence) -> None:
        self.budget += self.grants.pop(victim, 0)
        if self.moves.copies_for(victim):  # then its last page will hold nothing
            victim.num_computed -= victim.num_computed % self._page_size
            victim.is_reread = False
        for page in self.promised.pop(victim, ()):
            self.queues.disown(page)
        self._send_away(victim)
        self.preempted.append(victim)

    def _send_away(self, victim: Sequence) -> None:
        """Back to the waiting, with its pages going to the host if that is wanted."""
        is_there = self.moves.comes_in(victim)  # the host has not let go of them yet
        self.moves.take_back(victim)
        if not is_there and self.wants_swap(victim):
            sharing = self.queues.sharing
            num_tokens = sharing.num_there_of(victim)
            pages = victim.pages[: self.queues.pool.pages_for(num_tokens)]
            is_whole = sharing.is_in_sight(pages, num_tokens)
            pages = pages[victim.num_passed :] if is_whole else []
            if pages and self.queues.host.take(victim, num_tokens, len(pages)):
                self.moves.send_out(victim, pages)
        self.queues.preempt(victim)
