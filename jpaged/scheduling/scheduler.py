"""Decides what runs in the next step.

    add(request)  ─►  waiting ─► running ─►  finished
                       schedule(), advance()  update()

    between steps: fork(sequence), extend(sequence, token), finish(sequence)

The policy says who should run; the scheduler sees to it that pages, seats and the token budget
are respected and that every request ends, whatever the policy says.
"""

import warnings
from collections import deque
from collections.abc import Collection, Iterator

from jpaged.errors import PolicyWarning, RequestRejected
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.counts import Counts
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.plan import StepPlan
from jpaged.scheduling.policy import Fcfs, Policy, View, Wish
from jpaged.scheduling.prefix import PrefixCache
from jpaged.scheduling.queues import Queues
from jpaged.scheduling.request import Request, Sequence, Status
from jpaged.scheduling.stopping import finish_of


class Scheduler:
    """Iteration-level scheduling with mixed chunked prefill and decode (Orca, OSDI 2022;
    Sarathi-Serve, OSDI 2024), over pages (PagedAttention, SOSP 2023).

    Preemption is by recomputation, or by swapping to the host: as the policy wants it or, where
    that is silent, if `swaps`; as long as there are host pages.  Times are seconds on any clock;
    the scheduler has none.  With a `window`, a token looks at so many, itself included, and pages
    that no token will look at are let go.

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
    ):
        self.pool = pool
        self.policy = policy
        self.policy_error: Exception | None = None
        self.max_num_batched_tokens = max_num_batched_tokens
        self.enable_chunked_prefill = enable_chunked_prefill
        self.cache = PrefixCache(pool) if enable_prefix_caching else None
        self.queues = Queues(pool, max_num_seqs, self.cache, num_host_pages, window)
        self.swaps = swaps
        self.counts = Counts()
        if self.cache is not None:
            self.cache.chooser = self
        self._num_arrived = 0
        self._promised: list[int] = []  # pages that the latest batch fills
        # batches on their way, each with those who get a token from it
        self._underway: deque[tuple[ScheduledBatch, list[Sequence | None]]] = deque()

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
        """Queues the request's n sequences.  Raises `RequestRejected` if one can never run.

        is_steered: they choose no tokens, but pause when all they have is computed; see `extend`.
        """
        self._check_fits(request)
        sequences, family = [], []
        for index in range(request.params.num_samples):
            sequence = Sequence(
                request, index, self._num_arrived, family=family, is_steered=is_steered
            )
            sequence.timing.queued = request.arrival
            self._num_arrived += 1
            self.queues.enqueue(sequence)
            sequences.append(sequence)
        return sequences

    def _check_fits(self, request: Request) -> None:
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

    def schedule(self, now: float) -> ScheduledBatch | None:
        """The next step's batch, with pages reserved; None when nothing is left to do."""
        if not self.has_unfinished:
            return None
        self.queues.release_passed()
        plan = StepPlan(
            self.queues,
            lambda: self._victim(now),
            lambda victim: self._wants_swap(now, victim),
            self.max_num_batched_tokens,
            self.enable_chunked_prefill,
        )
        plan.secure_eldest()
        for sequence, most in self._wishes(self.view(now)):
            plan.grant(sequence, most)
            if not plan.budget and plan.is_full:
                break
        batch = plan.settle()
        self._promised = [page for pages in plan.promised.values() for page in pages]
        for sequence in plan.admitted:
            if sequence in plan.grants and sequence.timing.scheduled is None:
                sequence.timing.scheduled = now
                self._count_cached(sequence)
        return batch if batch.items else None

    def _count_cached(self, sequence: Sequence) -> None:
        sequence.num_cached = sequence.num_computed
        if self.cache is not None and sequence.index == 0:  # the others find it in the family
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
        and those that pause from now on."""
        if not self._underway:
            self.advance(batch)
        underway, receivers = self._underway.popleft()
        assert underway is batch, "batches answer in the order in which they were advanced"
        size, advanced = self.pool.page_size, []
        for sequence, token in zip(receivers, output.tokens, strict=True):
            if sequence is None or sequence.status is Status.FINISHED:  # ended while its step ran
                continue
            advanced.append(sequence)
            tokens, timing = sequence.tokens, sequence.timing
            sequence.num_expected -= 1
            if sequence.is_steered:
                continue
            tokens.append(token)
            timing.last_token = now
            if timing.first_token is None:
                timing.first_token = now
            # a page that was full before its last token was known
            known, computed = len(tokens), sequence.num_computed
            if (computed if computed < known else known) // size > sequence.num_remembered:
                self.queues.remember_full_pages(sequence, sequence.num_computed)
            if token in sequence.stop_ids or known >= sequence.full_length:
                self._finish_if_done(sequence)
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
        self.queues.finish(sequence, reason, stop_reason)

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
            free_seats=self.queues.num_free_seats,
            free_pages=self.pool.num_free,
            page_size=self.pool.page_size,
        )

    # A policy is somebody else's code: whatever it raises must cost no request, hence the
    # broad excepts below, and nowhere else.

    def _wishes(self, view: View) -> Iterator[Wish]:
        """The policy's well-formed wishes, as many as there can be sensible ones."""
        limit = 4 * (len(view.running) + len(view.waiting)) + 16  # it may propose for ever
        policy = self.policy  # its `victim` may fail, and be replaced, while it proposes
        try:
            for wish in policy.propose(view):
                if type(wish) is tuple and len(wish) == 2:
                    if isinstance(wish[0], Sequence) and isinstance(wish[1], int):
                        yield wish
                limit -= 1
                if not limit:
                    return
        except Exception as error:
            self._replace(policy, error)
            yield from self.policy.propose(view)

    def _victim(self, now: float) -> Sequence:
        try:
            return self.policy.victim(self.view(now))
        except Exception as error:
            self._replace(self.policy, error)
            return self.policy.victim(self.view(now))

    def _wants_swap(self, now: float, victim: Sequence) -> bool:
        """Asks the policy, if there is room on the host at all and it has an opinion."""
        if not self.queues.host.num_pages:
            return False
        asked = getattr(self.policy, "wants_swap", None)
        try:
            return self.swaps if asked is None else bool(asked(self.view(now), victim))
        except Exception as error:
            self._replace(self.policy, error)
            return self.swaps

    def choose_idle(self, pages: Collection[int]) -> int:
        """The idle page of lowest rank, if the policy ranks them; else the first."""
        rank = getattr(self.policy, "evict_rank", None)
        try:
            if rank is not None and self.cache is not None:
                known = self.cache.known
                return min(pages, key=lambda page: rank(known[page]))
        except Exception as error:
            self._replace(self.policy, error)
        return next(iter(pages))

    def _replace(self, policy: Policy, error: Exception) -> None:
        name = type(policy).__name__
        self.policy, self.policy_error = Fcfs(), error
        warnings.warn(
            f"policy {name} raised {type(error).__name__}: {error}; "
            "first come, first served replaces it, no request is lost",
            PolicyWarning,
            stacklevel=2,
        )
