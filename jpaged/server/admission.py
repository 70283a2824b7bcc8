"""Who may queue: decided when a request comes, so that a gateway can still take it elsewhere.

    enter ──► queued ── first token ──► running ──► gone
                 └─────── gave up ────────────────────┘

Bounded are the requests that have not begun to answer, and their prompts' tokens.  Those that run
are bounded by the engine's seats.
"""

from collections import Counter
from dataclasses import dataclass, field

from jpaged.errors import RequestRejected
from jpaged.server.errors import Overloaded

WEIGHT_OF_THE_LATEST = 0.2  # in the average of waiting times
LONGEST_ADVICE = 60.0  # seconds that a client is told to stay away


@dataclass(eq=False)
class Ticket:
    """A request's place, first in the queue, then among those that run."""

    num_tokens: int
    client: str
    since: float
    is_queued: bool = True


@dataclass(eq=False)
class Admission:
    """One model's queue as the server sees it.  max_of_client: requests of one key together."""

    max_queued_requests: int
    max_queued_tokens: int
    max_of_client: int | None = None
    num_queued: int = 0
    num_queued_tokens: int = 0
    num_live: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # requests, by the limit
    of_client: Counter[str] = field(default_factory=Counter)
    usual_wait: float = 1.0  # seconds in the queue

    def enter(self, sizes: list[int], client: str, now: float) -> list[Ticket]:
        """A ticket for each request, or none.  Raises `Overloaded`, and `RequestRejected` for so
        many that they would never fit."""
        self.check(sizes, client)
        self.num_queued += len(sizes)
        self.num_queued_tokens += sum(sizes)
        self.num_live += len(sizes)
        self.of_client[client] += len(sizes)
        return [Ticket(size, client, now) for size in sizes]

    def check(self, sizes: list[int], client: str) -> None:
        """Raises what `enter` would raise; changes nothing but the count of refusals."""
        count, tokens = len(sizes), sum(sizes)
        if count > self.max_queued_requests or tokens > self.max_queued_tokens:
            raise RequestRejected(
                f"{count} prompts with {tokens} tokens are more than the queue ever holds, "
                f"{self.max_queued_requests} and {self.max_queued_tokens}; send fewer at a time"
            )
        most = self.max_of_client
        if client and most is not None and self.of_client[client] + count > most:
            self.refused["max_requests_per_key"] += count
            raise Overloaded(
                f"This key has {self.of_client[client]} requests under way; at most {most} may be.",
                self.advice,
                status=429,
            )
        is_full = self.num_queued + count > self.max_queued_requests
        if is_full or self.num_queued_tokens + tokens > self.max_queued_tokens:
            self.refused["max_num_queued_reqs" if is_full else "max_num_queued_tokens"] += count
            raise Overloaded(
                f"The queue is full: {self.num_queued} requests with {self.num_queued_tokens} "
                "tokens wait.",
                self.advice,
            )

    @property
    def advice(self) -> float:
        """Seconds after which it may be worth to come again."""
        return min(LONGEST_ADVICE, self.usual_wait)

    def begin(self, ticket: Ticket, now: float) -> None:
        """Its first token came: it waits no more."""
        if ticket.is_queued:
            self._leave_queue(ticket)
            self.usual_wait += WEIGHT_OF_THE_LATEST * (now - ticket.since - self.usual_wait)

    def leave(self, ticket: Ticket) -> None:
        """It is over, however it ended."""
        if ticket.is_queued:
            self._leave_queue(ticket)
        self.num_live -= 1
        self.of_client[ticket.client] -= 1
        if not self.of_client[ticket.client]:
            del self.of_client[ticket.client]

    def _leave_queue(self, ticket: Ticket) -> None:
        ticket.is_queued = False
        self.num_queued -= 1
        self.num_queued_tokens -= ticket.num_tokens
