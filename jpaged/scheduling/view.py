"""What a policy sees: a moment of the scheduler, and answers to what it may want to know of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random

from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.queues import Queues
from jpaged.scheduling.request import Request, Sequence, Status


@dataclass(frozen=True)
class Service:
    """What a client has got so far, and how many of its sequences run and wait.

    Prompt tokens count when they are computed, or found; output tokens when they are said.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    num_running: int = 0
    num_waiting: int = 0


class Ledger:
    """The tokens of sequences that have ended, by client."""

    def __init__(self):
        self.prompt_tokens: Counter[str] = Counter()
        self.output_tokens: Counter[str] = Counter()

    def add(self, sequence: Sequence, times: int = 1) -> None:
        """times: -1 takes away what was served elsewhere."""
        client = sequence.client
        self.prompt_tokens[client] += times * sequence.num_prompt_done
        self.output_tokens[client] += times * sequence.num_generated

    def services(self, queues: Queues) -> dict[str, Service]:
        """Of all clients, those who run and wait included."""
        inputs, outputs = self.prompt_tokens.copy(), self.output_tokens.copy()
        running, waiting = Counter[str](), Counter[str]()
        for sequence in queues:
            client = sequence.client
            inputs[client] += sequence.num_prompt_done
            outputs[client] += sequence.num_generated
            (running if sequence.status is Status.RUNNING else waiting)[client] += 1
        clients = inputs.keys() | outputs.keys() | running.keys() | waiting.keys()
        return {
            client: Service(inputs[client], outputs[client], running[client], waiting[client])
            for client in clients
        }


@dataclass(frozen=True)
class View:
    """A moment of the scheduler.

    running: in order of admission.  waiting: in order of arrival.  The sequences are the
    scheduler's own; read them, do not write to them.  now: seconds of the engine's clock, or of
    virtual time.  buckets: the compiled shapes, if there are any; costs: what steps take, if
    anybody knows.  seed: another one for every step, the same in every run.
    """

    now: float
    running: tuple[Sequence, ...]
    waiting: tuple[Sequence, ...]
    token_budget: int
    max_num_seqs: int
    free_seats: int
    num_pages: int
    free_pages: int
    page_size: int
    queues: Queues
    ledger: Ledger
    buckets: BucketLadder | None = None
    costs: Costs | None = None
    seed: int = 0

    @property
    def random(self) -> Random:
        """A new source of chance; it begins alike each time it is asked for in one step."""
        return Random(self.seed)

    @cached_property
    def clients(self) -> Mapping[str, Service]:
        """What each client has got so far."""
        return self.ledger.services(self.queues)

    @cached_property
    def num_spare_pages(self) -> int:
        """Free pages that no running sequence is waiting for: the next may be let in on them."""
        return self.free_pages - sum(map(self.queues.pages_to_come, self.running))

    def num_cached(self, sequence: Sequence) -> int:
        """Tokens that need not be computed: those a waiting sequence would find now, in the cache
        or with a relative; those a running one has.  Asking changes nothing."""
        if sequence.status is Status.RUNNING:
            return sequence.num_computed
        return self.queues.sharing.find(sequence, {}).num_tokens

    def num_cached_pages(self, sequence: Sequence) -> int:
        """Whole pages that a waiting sequence would find in the cache now.  Ten times as quick as
        `num_cached`, which looks for a part of one more, and at relatives."""
        return len(self.queues.sharing.next_pages(sequence))

    def awaits_relative(self, sequence: Sequence) -> bool:
        """Whether a relative is computing what a waiting sequence will share, which is not let in
        before."""
        return self.queues.sharing.awaits_relative(sequence, {})

    def num_cached_of(self, request: Request) -> int:
        """Prompt tokens of a request that is not here which would be found in the cache."""
        return self.queues.sharing.find(Sequence(request), {}).num_tokens

    def num_shared_pages(self, sequence: Sequence) -> int:
        """Pages that it holds together with others."""
        holders = self.queues.pool.holders
        return sum([holders[page] > 1 for page in sequence.held_pages])

    def num_freed_by(self, sequence: Sequence) -> int:
        """Pages that would be free if it gave way: those it holds alone."""
        return len(sequence.held_pages) - self.num_shared_pages(sequence)

    def recompute_cost(self, sequence: Sequence) -> int:
        """Tokens that would be computed again if it gave way and its pages went to others."""
        return min(sequence.num_computed, self.num_freed_by(sequence) * self.page_size)
