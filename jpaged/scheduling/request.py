"""What is asked (`Request`) and what is being written (`Sequence`).

A sequence is one stream of tokens: the prompt, then what was generated.  It has no phase: it has
*pending* tokens, which are known but not yet in the cache.  A fresh prompt, a chunk of one, a
single decoded token and a preempted conversation differ only in how many those are.

    tokens    p p p p p p p p g g g ?
              └─ computed ─┘ └pending┘

A token that the device is computing (?) is *expected*: it may be scheduled before it is known.

Sequences of one *family* began as one: samples of a prompt, beams, forks.  They share the pages of
what they have in common; whoever writes into a shared page gets a copy of it first.
"""

import enum
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.prefix import root_key
from jpaged.scheduling.terms import NO_TERMS, Terms


class Status(enum.Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True)
class Request:
    """One call of a user.  `seed` is resolved: it is a number whether or not the user gave one."""

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    arrival: float = 0.0  # seconds, on the clock that `schedule(now)` uses
    priority: int = 0  # lower goes first, as in vLLM
    seed: int = 0
    eos_token_ids: frozenset[int] = frozenset()
    max_tokens: int = 16  # resolved against the model's length
    bad_words: tuple[tuple[int, ...], ...] = ()  # token spellings of params.bad_words
    logprobs_divisor: float = 1.0  # divides the logits of which log-probabilities are reported
    cache_salt: str = ""  # requests share cached pages only with those of the same salt
    terms: Terms = NO_TERMS


@dataclass
class Timing:
    """When things happened to a sequence, in seconds of the scheduler's clock."""

    queued: float = 0.0
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    tokens: list[float] = field(default_factory=list)  # when each was said
    pauses: list[tuple[float, float | None]] = field(default_factory=list)  # while preempted

    def pause(self, now: float) -> None:
        """It was preempted; who was let in only this moment has lost nothing."""
        if self.scheduled is not None and not self._is_paused:
            self.pauses.append((now, None))

    def resume(self, now: float) -> None:
        """It was let in; not for the first time, if it was preempted before."""
        if self._is_paused:
            self.pauses[-1] = (self.pauses[-1][0], now)

    @property
    def _is_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    def copy(self) -> "Timing":
        return replace(self, tokens=list(self.tokens), pauses=list(self.pauses))


# identity: two samples of one request are different sequences.  Slots: every step reads thousands
# of these attributes, and beyond thirty of them Python would look each up in a dict
@dataclass(eq=False, slots=True, weakref_slot=True)
class Sequence:
    """One stream of tokens and the pages that hold its keys and values.

    Owned by the scheduler.  Invariant: `num_computed <= len(pages) * page_size`, and every page
    up to there holds written keys and values once the steps submitted so far have run; but for
    the first `num_passed`, which left the model's window and belong to others now.  `pages` only
    grows; where it would change otherwise, it becomes another list.
    """

    request: Request
    index: int = 0  # which of the request's n samples
    serial: int = 0  # order of arrival over the scheduler's life
    tokens: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    num_passed: int = 0  # leading entries of `pages` that it holds no more
    # leading pages which layers of each narrower window look at no more; see `Places`
    unseen: list[int] = field(default_factory=list)
    page_keys: list[bytes] = field(default_factory=list)  # chain keys of the full pages
    num_computed: int = 0
    num_expected: int = 0  # tokens that submitted steps will answer with
    num_remembered: int = 0  # full pages offered to the prefix cache so far
    num_reached: int = 0  # the most tokens it ever had computed: below, work is done again
    # its next token lies in a page already: computed once more for what follows, not written
    is_reread: bool = False
    shares_tail: bool = False  # others may hold the page which it writes to next
    is_steered: bool = False  # somebody else chooses its tokens: see `Scheduler.extend`
    # steered, and all is computed that there is to choose from; or about to go elsewhere
    is_paused: bool = False
    num_cached: int = 0  # prompt tokens found in the prefix cache at first admission
    num_preemptions: int = 0
    num_swapped: int = 0  # tokens whose keys and values are on the host
    num_swapped_passed: int = 0  # pages of them that had left the window, and are not there
    status: Status = Status.WAITING
    finish_reason: str | None = None  # "stop", "length", "abort"
    stop_reason: int | str | None = None
    timing: Timing = field(default_factory=Timing)
    family: list["Sequence"] = field(default_factory=list)  # itself and its living relatives
    # what follows from the request
    cache_root: bytes = field(init=False)
    seed: int = field(init=False)
    num_prompt: int = field(init=False)
    full_length: int = field(init=False)
    stop_ids: frozenset[int] = field(init=False)
    needs_known_tokens: bool = field(init=False)

    def __post_init__(self) -> None:
        self.family.append(self)
        if not self.tokens:
            self.tokens = list(self.request.prompt)
        # samples of one request, and requests with neighbouring seeds, must not share randomness
        key = f"{self.request.seed}/{self.index}".encode()
        self.cache_root = root_key(*filter(None, [self.request.cache_salt]))
        self.seed = int.from_bytes(blake2b(key, digest_size=4).digest())
        params = self.request.params
        self.num_prompt = len(self.request.prompt)
        self.full_length = self.num_prompt + self.request.max_tokens
        eos = frozenset() if params.ignore_eos else self.request.eos_token_ids
        self.stop_ids = eos | frozenset(params.stop_token_ids or ())
        # what comes next depends on which tokens were said, not only on how many; and a step that
        # is begun before a steered one is told how to go on would run without it
        bad_words = bool(self.request.bad_words)
        self.needs_known_tokens = params.has_penalty or bad_words or self.is_steered

    def fork(self, request: Request, index: int) -> "Sequence":
        """A relative with the same tokens so far, but no pages yet."""
        return Sequence(
            request,
            index,
            serial=self.serial,
            tokens=list(self.tokens),
            page_keys=list(self.page_keys),
            num_cached=self.num_cached,
            num_reached=max(self.num_reached, self.num_computed),
            is_steered=self.is_steered,
            timing=self.timing.copy(),
            family=self.family,
        )

    @property
    def num_pending(self) -> int:
        """Tokens to compute, expected ones included; the very last one never needs to be."""
        if self.is_paused:
            return 0
        upto = len(self.tokens) + self.num_expected
        return (upto if upto < self.full_length else self.full_length - 1) - self.num_computed

    @property
    def num_written(self) -> int:
        """Tokens whose keys and values are in the pages."""
        return self.num_computed + self.is_reread

    @property
    def num_prompt_done(self) -> int:
        """Prompt tokens that were ever computed, or found."""
        return min(max(self.num_computed, self.num_reached), self.num_prompt)

    @property
    def held_pages(self) -> list[int]:
        """The pages it holds, in order of its tokens."""
        return self.pages[self.num_passed :]

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    @property
    def generated(self) -> list[int]:
        return self.tokens[len(self.request.prompt) :]

    @property
    def arrival(self) -> float:
        return self.request.arrival

    @property
    def client(self) -> str:
        return self.request.terms.client

    @property
    def session(self) -> str:
        return self.request.terms.session

    @property
    def priority(self) -> int:
        return self.request.priority

    @property
    def is_finished(self) -> bool:
        return self.status is Status.FINISHED

    def __repr__(self) -> str:
        return (
            f"Sequence({self.request.id}.{self.index}, {self.status.value}, "
            f"{self.num_computed}/{len(self.tokens)} tokens, {len(self.pages)} pages)"
        )
