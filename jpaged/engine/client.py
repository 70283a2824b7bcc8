"""What a server knows of an engine, wherever that runs: in this process or in one of its own.

    stream(request) ─► deltas                        one stream a request, merged for slow readers
    listeners       ◄─ StepNews, one a step          metrics, the page
    door            ─► what a request is measured against, before the engine hears of it

Nothing here imports JAX, so that a server's process need not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.door import Door
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.stats import EngineStats
from jpaged.engine.streams import Stream
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import EngineDied as EngineDied
from jpaged.errors import RequestFailed as RequestFailed
from jpaged.errors import RequestRejected
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.report import PageReport
from jpaged.scheduling.request import Request

STEP_PATIENCE = 120.0  # seconds that a step may take; then its engine is not healthy


@dataclass(frozen=True)
class ModelCard:
    """What one needs to know of a loaded model without touching its engine.

    created: seconds since 1970.  policy: its name.
    """

    name: str
    folder: str
    created: int
    max_model_len: int
    vocab: int
    eos_token_ids: frozenset[int]
    max_logprobs: int
    seed: int
    max_num_seqs: int
    max_num_batched_tokens: int
    num_pages: int
    page_size: int
    dtype: str
    architecture: str
    num_parameters: int
    policy: str

    def door(self, tokenizer: Tokenizer | None) -> Door:
        return Door(
            tokenizer=tokenizer,
            vocab=self.vocab,
            max_model_len=self.max_model_len,
            max_logprobs=self.max_logprobs,
            eos_token_ids=self.eos_token_ids,
            seed=self.seed,
        )


@dataclass(frozen=True)
class StepNews:
    """What came of one step, and of what was asked of the engine before it.

    failed: request id -> why; only these requests fail.  refused: the same for those that were
    never queued.  aborted: ids of which nothing is heard any more from here on; then the same id
    may come again, within this step.  steps, ended: for metrics and the page.
    """

    outputs: list[RequestOutput]
    failed: dict[str, str]
    stats: EngineStats
    steps: list[StepRecord] = field(default_factory=list)
    ended: list[RequestRecord] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        told = (self.outputs, self.failed, self.steps, self.ended, self.refused, self.aborted)
        return any(told)


class Described:
    """What an engine's card and tokenizer tell of it, in whichever process it runs."""

    card: ModelCard
    _tokenizer: Tokenizer | None

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises `RequestRejected` if the engine has none."""
        if self._tokenizer is None:
            raise RequestRejected("this engine was built with skip_tokenizer_init=True")
        return self._tokenizer

    @property
    def door(self) -> Door:
        return self.card.door(self._tokenizer)


class EngineClient(Protocol):
    """An engine as its server sees it.  All of it is for the event loop."""

    card: ModelCard
    stats: EngineStats  # the latest
    listeners: list[Callable[[StepNews], None]]  # hear of every step, on the event loop

    @property
    def tokenizer(self) -> Tokenizer:
        """In this process.  Raises `RequestRejected` if the engine has none."""
        ...

    @property
    def door(self) -> Door:
        """What requests are measured against."""
        ...

    @property
    def is_healthy(self) -> bool:
        """False once it died, or while it does not answer."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether it serves no more, and never will."""
        ...

    def stream(
        self,
        request: Request,
        prompt_text: str | None,
        search: BeamSearchParams | None = None,
    ) -> Stream:
        """Queues a request that the door let in.  Yields its outputs, of the kind it asked for;
        deltas are merged, and others replaced, while the reader is slow.  A beam search yields its
        end alone.

        Closing the iterator (`aclose`, cancellation, or forgetting it) aborts the request.  Raises
        `EngineDied`, `RequestFailed`, and `RequestRejected` for what only the engine could see;
        the iterator, not this call, but for an id that is in flight.
        """
        ...

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Ends requests and frees their pages.  Their readers hear of it as `RequestFailed`.
        Unknown ids are no error."""
        ...

    async def page_report(self) -> PageReport:
        """Who holds which part of the cache now."""
        ...

    async def set_policy(self, name: str) -> None:
        """Lets another policy decide from the next step on; nobody in flight is harmed."""
        ...

    async def close(self) -> None:
        """Fails what is in flight and gives everything back."""
        ...
