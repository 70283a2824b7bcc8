"""Decides what runs in the next step.

    add(request)  ─►  waiting ─► running ─►  finished
                       schedule(), advance()  update()

    between steps: fork(sequence), extend(sequence, token), finish(sequence)

The policy says who should run; the scheduler sees to it that pages, seats and the token budget
are respected and that every request ends, whatever the policy says.
"""

from collections import deque
from collections.abc import Collection

from jpaged.errors import PolicyWarning, PolicyWrote, RequestRejected
from jpaged.scheduling.audit import accusation, is_ours
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.counsel import Counsel
from jpaged.scheduling.counts import Counts
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.plan import StepPlan
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.prefix import PrefixCache
from jpaged.scheduling.queues import Queues
from jpaged.scheduling.request import Request, Sequence, Status
from jpaged.scheduling.stopping import finish_of
from jpaged.scheduling.view import Ledger, View

MOST_IDLE = 10.0  # seconds that a policy may let everybody wait


class Scheduler:
    """Iteration-level scheduling with mixed chunked prefill and decode (Orca, OSDI 2022;
    Sarathi-Serve, OSDI 2024), over pages (PagedAttention, SOSP 2023).

    Preemption is by recomputation, or by swapping to the host: as the policy wants it or, where
    that is silent, if `swaps`; as long as there are host pages.  Times are seconds on any clock;
    the scheduler has none.  With a `window`, a token looks at so many, itself included, and pages
    that no token will look at are let go.  buckets, costs and seed are for policies, see `View`.

    wake_at: when `schedule` said that there is nothing to do, and the policy wants to wait, until
    then.  num_scheduled: how often it was asked.  ended: sequences that did so and were not taken
    from there yet.

    A batch may be scheduled before the one before it has answered: `advance` says that a batch is
    on its way, and its sequences go on with *expected* tokens.  Whoever turns out to have ended
    meanwhile computed one token too many, which `update` drops.  Steps must run in order.
    """

    def __init__(
        self,
        pool: PagePool,
        policy: Policy,
        *,
        max_num_seqs: int = 128,
        max_num_batched_tokens: int = 2048,
        enable_prefix_caching: bool = True,
        enable_chunked_prefill: bool = True,
        num_host_pages: int = 0,
        swaps: bool = True,
        window: int | None = None,
        buckets: BucketLadder | None = None,
        costs: Costs | None = None,
        seed: int = 0,
    ):
        self.pool = pool
        self.counsel = Counsel(policy)
        self.buckets, self.costs, self.seed = buckets, costs, seed
        self.ledger = Ledger()
        self.wake_at: float | None = None
        self.ended: list[Sequence] = []
        self.max_num_batched_tokens = max_num_batched_tokens
        self.enable_chunked_prefill = enable_chunked_prefill
        self.cache = PrefixCache(pool) if enable_prefix_caching else None
        self.queues = Queues(pool, max_num_seqs, self.cache, num_host_pages, window)
        self.swaps = swaps
        self.counts = Counts()
        if self.cache is not None:
            self.cache.chooser = self
        self._num_arrived = self.num_scheduled = 0
        self._idle_since: float | None = None  # because the policy wants to wait
        self._now = 0.0  # the latest time heard of
        self._promised: list[int] = []  # pages that the latest batch fills
        # batches on their way, each with those who get a token from it
        self._underway: deque[tuple[ScheduledBatch, list[Sequence | None]]] = deque()

    @property
    def policy(self) -> Policy:
        """Who proposes.  Another one may be set at any time between steps."""
        return self.counsel.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.counsel.change(policy)

    @property
    def policy_error(self) -> Exception | SystemExit | None:
        """What a policy raised that was replaced."""
        return self.counsel.error

    @property
    def has_unfinished(self) -> bool:
        return bool(self.queues.running or self.queues.waiting)

    @property
    def running(self) -> tuple[Sequence, ...]:
        return tuple(self.queues.running)

    @property
    def waiting(self) -> tuple[Sequence, ...]:
        return tuple(self.queues.waiting)

    def add(self, request: Request, is_steered: bool = False) -> list[Sequence]:
        """Queues the request's n sequences.  Raises `RequestRejected` if one can never run, or the
        policy refuses it.

        is_steered: they choose no tokens, but pause when all they have is computed; see `extend`.
        """
        self.check_fits(request)
        reason = self.counsel.refusal(lambda: self.view(request.arrival), request)
        if reason is not None:
            name = type(self.policy).__name__
            raise RequestRejected(f"request {request.id} is refused by the policy {name}: {reason}")
        sequences, family = [], []
        for index in range(request.params.num_samples):
            sequence = Sequence(
                request, index, self._num_arrived, family=family, is_steered=is_steered
            )
            sequence.timing.queued = request.arrival
            self._num_arrived += 1
            self.queues.enqueue(sequence)
            sequences.append(sequence)
            self.counsel.tell("on_arrival", sequence, request.arrival)
        return sequences

    def check_fits(self, request: Request) -> None:
        """Raises `RequestRejected` for a request that can never run here."""
        if not request.prompt:
            raise RequestRejected(
                f"request {request.id} has an empty prompt; nothing to go on from"
            )
        most = len(request.prompt) + request.max_tokens
        capacity = self.pool.num_pages * self.pool.page_size
        if most > capacity:
            raise RequestRejected(
                f"request {request.id} may grow to {most} tokens ({len(request.prompt)} prompt + "
                f"{request.max_tokens} max_tokens), the cache holds {capacity} "
                f"({self.pool.num_pages} pages of {self.pool.page_size}); "
                "lower max_tokens or raise num_pages"
            )
        if not self.enable_chunked_prefill and most > self.max_num_batched_tokens:
            raise RequestRejected(
                f"request {request.id} may grow to {most} tokens, a step takes "
                f"{self.max_num_batched_tokens} (max_num_batched_tokens) and chunked prefill is "
                "off; enable it or raise max_num_batched_tokens"
            )

    def fork(self, parent: Sequence, request: Request, index: int = 0) -> Sequence:
        """A new sequence with the known tokens of a living one, on the same pages.

        It goes on by itself: under `request`, from whose seed and `index` its randomness comes.
        """
        assert not parent.is_finished, f"{parent} has ended"
        child = parent.fork(request, index)
        has_prompt = parent.num_computed >= parent.num_prompt  # or both would compute the rest
        if parent.status is Status.RUNNING and has_prompt and self.queues.num_free_seats:
            self.queues.fork(parent, child)
        else:  # it will find its parent's pages, or what is left of them, when it is admitted
            self.queues.enqueue(child)
        return child

    def extend(self, sequence: Sequence, token: int) -> None:
        """Gives a steered sequence its next token; it pauses again when that is computed."""
        assert sequence.is_steered and not sequence.num_expected, f"{sequence} chooses by itself"
        if sequence.is_reread:  # nobody asks what follows from the token before
            sequence.num_computed += 1
            sequence.is_reread = False
        sequence.tokens.append(token)
        sequence.is_paused = False

    def pause(self, sequence: Sequence) -> None:
        """Lets a sequence be, on its pages, until `resume`: it is about to go elsewhere."""
        sequence.is_paused = True

    def resume(self, sequence: Sequence) -> None:
        sequence.is_paused = False

    def release(self, sequence: Sequence) -> None:
        """Lets a sequence go elsewhere, and gives up its pages here; see `migration.move`."""
        self.queues.leave(sequence)
        self.counsel.tell("on_finish", sequence, self._now)

    def adopt(self, sequence: Sequence) -> None:
        """Queues a sequence that comes from elsewhere, as the latest to arrive here."""
        sequence.serial = self._num_arrived
        self._num_arrived += 1
        self.queues.enqueue(sequence)
        self.counsel.tell("on_arrival", sequence, self._now)

    def is_under_way(self, sequence: Sequence) -> bool:
        """Whether a step that has not answered yet computes tokens of it."""
        return any(sequence is each for batch, _ in self._underway for each, _ in batch.items)

    def schedule(self, now: float) -> ScheduledBatch | None:
        """The next step's batch, with pages reserved; None when there is nothing to do, or not
        before `wake_at`.  Raises `PolicyWrote` where a policy has made that impossible."""
        try:
            return self._schedule(now)
        except Exception as error:
            self._accuse(error)
            raise

    def _accuse(self, error: Exception) -> None:
        """Raises `PolicyWrote` if an error of ours is likely a policy's."""
        if isinstance(error, PolicyWarning):  # warnings are errors
            return
        suspect = self.counsel.suspect
        what = "" if is_ours(suspect) else f"{type(error).__name__}: {error}"
        said = accusation(suspect, self.queues, what)
        if said is not None:
            raise PolicyWrote(said) from error

    def _schedule(self, now: float) -> ScheduledBatch | None:
        self.wake_at, self._now = None, now
        if not self.has_unfinished:
            return None
        self.num_scheduled += 1
        self.counsel.begin_step(self.num_scheduled)
        self.queues.release_passed()
        plan = self._propose(now)
        if self._may_wait(plan, now):
            return None
        batch = plan.settle()
        self._promised = [page for pages in plan.promised.values() for page in pages]
        for sequence in plan.preempted:
            sequence.timing.pause(now)
        for sequence in plan.admitted:
            if sequence not in plan.grants:
                continue
            sequence.timing.resume(now)
            if sequence.timing.scheduled is None:
                sequence.timing.scheduled = now
                self._count_cached(sequence)
        return batch if batch.items else None

    def _propose(self, now: float) -> StepPlan:
        """The policy's wishes, as far as they can be granted."""
        plan = StepPlan(
            self.queues,
            lambda: self.counsel.victim(self.view(now)),
            lambda victim: self._wants_swap(now, victim),
            self.max_num_batched_tokens,
            self.enable_chunked_prefill,
        )
        view = self.view(now)
        if gone := self.counsel.preempted(view):
            plan.send_away(gone)
            view = self.view(now)
        plan.secure_eldest()
        for sequence, most in self.counsel.wishes(view):
            plan.grant(sequence, most)
            if (plan.is_closed or not plan.budget) and plan.is_full:
                break
        return plan

    def _wants_swap(self, now: float, victim: Sequence) -> bool:
        """Asks the policy, if there is room on the host at all."""
        if not self.queues.host.num_pages:
            return False
        return self.counsel.wants_swap(self.view(now), victim, otherwise=self.swaps)

    def _may_wait(self, plan: StepPlan, now: float) -> bool:
        """Whether nobody is to be let in yet, because the policy wants to wait."""
        if plan.grants or self.queues.running or not self.queues.waiting:
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now
        at = self.counsel.wake_at(self.view(now))
        # the very number that a simulated clock will show then: their difference may be rounded
        at = min(at, self._idle_since + MOST_IDLE)
        if at <= now:
            self._idle_since = None
            return False
        self.wake_at = at
        return True

    def _count_cached(self, sequence: Sequence) -> None:
        sequence.num_cached = sequence.num_computed
        is_first = sequence.family[0] is sequence  # the others find it in the family
        if self.cache is not None and is_first:
            self.cache.num_queried += sequence.num_prompt
            self.cache.num_hits += sequence.num_cached

    def advance(self, batch: ScheduledBatch) -> None:
        """Counts a batch as computed, because the device is going to.

        From now on whatever is scheduled may build on it, its unknown tokens included.
        """
        receivers: list[Sequence | None] = []
        self.counts.add(batch)
        for sequence, count in batch.items:
            sequence.num_computed += count
            if sequence.is_reread:
                sequence.is_reread = False
            gets_token = sequence.num_computed == len(sequence.tokens) + sequence.num_expected
            sequence.num_expected += gets_token
            if gets_token and sequence.is_steered:
                sequence.is_paused = True
            receivers.append(sequence if gets_token else None)
        self._underway.append((batch, receivers))

    def cancel(self, batch: ScheduledBatch) -> None:
        """Takes back a batch that the device will never run: its sequences wait again."""
        promised = set(self._promised)
        for page in promised:
            self.queues.disown(page)
        for sequence, _ in batch.swap_outs:
            self.queues.leave_host(sequence)
        lost = {sequence for sequence, _ in batch.items}
        for sequence in self.running:
            if sequence in lost or promised.intersection(sequence.held_pages):
                self.queues.retreat(sequence)

    def update(self, batch: ScheduledBatch, output: StepOutput, now: float) -> list[Sequence]:
        """Enters a step's tokens.  Returns the sequences that got one, some of them finished,
        and those that pause from now on.  Raises `PolicyWrote`, as `schedule`."""
        try:
            return self._update(batch, output, now)
        except Exception as error:
            self._accuse(error)
            raise

    def _update(self, batch: ScheduledBatch, output: StepOutput, now: float) -> list[Sequence]:
        if not self._underway:
            self.advance(batch)
        underway, receivers = self._underway.popleft()
        assert underway is batch, "batches answer in the order in which they were advanced"
        size, advanced, self._now = self.pool.page_size, [], now
        for sequence, token in zip(receivers, output.tokens, strict=True):
            if sequence is None or sequence.status is Status.FINISHED:  # ended while its step ran
                continue
            advanced.append(sequence)
            tokens, timing = sequence.tokens, sequence.timing
            sequence.num_expected -= 1
            if sequence.is_steered:
                continue
            tokens.append(token)
            timing.tokens.append(now)
            timing.last_token = now
            if timing.first_token is None:
                timing.first_token = now
            # a page that was full before its last token was known
            known, computed = len(tokens), sequence.num_computed
            if (computed if computed < known else known) // size > sequence.num_remembered:
                self.queues.remember_full_pages(sequence, sequence.num_computed)
            if token in sequence.stop_ids or known >= sequence.full_length:
                self._finish_if_done(sequence)
        self.counsel.tell("on_step", batch, now)
        return advanced

    def drop(self, batch: ScheduledBatch) -> None:
        """Forgets the oldest batch on its way, for whose answer nobody waits."""
        underway, _ = self._underway.popleft()
        assert underway is batch, "batches answer in the order in which they were advanced"

    def _finish_if_done(self, sequence: Sequence) -> None:
        ending = finish_of(sequence)
        if ending is not None:
            self.finish(sequence, *ending)

    def finish(self, sequence: Sequence, reason: str, stop_reason: int | str | None = None) -> None:
        """Ends a sequence (for a stop string, say) and frees its pages."""
        self.ledger.add(sequence)
        self.queues.finish(sequence, reason, stop_reason)
        self.ended.append(sequence)
        self.counsel.tell("on_finish", sequence, self._now)

    def abort(self, request_id: str) -> list[Sequence]:
        """Ends every sequence of a request; returns them.  An unknown id is no error."""
        ended = [sequence for sequence in self.queues if sequence.request.id == request_id]
        for sequence in ended:
            self.finish(sequence, "abort")
        return ended

    def kept_pages(self) -> list[int]:
        """The pages whose contents matter: held ones, and those the prefix cache knows."""
        holders, known = self.pool.holders, self.cache.known if self.cache else {}
        return [page for page, count in enumerate(holders) if count or page in known]

    def reset_prefix_cache(self) -> None:
        """Forgets all cached prefixes.  Pages that sequences hold stay theirs."""
        if self.cache is not None:
            self.cache.reset()

    def view(self, now: float) -> View:
        return View(
            now=now,
            running=self.running,
            waiting=self.waiting,
            token_budget=self.max_num_batched_tokens,
            max_num_seqs=self.queues.max_num_seqs,
            free_seats=self.queues.num_free_seats,
            num_pages=self.pool.num_pages,
            free_pages=self.pool.num_free,
            page_size=self.pool.page_size,
            queues=self.queues,
            ledger=self.ledger,
            buckets=self.buckets,
            costs=self.costs,
            seed=self.seed * 1_000_003 + self.num_scheduled,
        )

    def choose_idle(self, pages: Collection[int]) -> int:
        """Which page the prefix cache forgets: see `Policy.evict_rank`."""
        assert self.cache is not None
        return self.counsel.page_to_evict(pages, self.cache.known)
