"""An executor that pretends, in real time: it answers when a cost model says that a device would.

    host      │schedule│                 │schedule│
    device             ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░      nothing is computed: one waits

Scheduler, pages, tokenizer and all that is built on them are real; no weights are loaded, nothing
is compiled.  It tells what a server costs, and lets one try policies as if there were an H200.  The
host's part of a step is what it takes here, whatever the cost model says of it.
"""

import math
import os
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

from jpaged.engine.tokenizer import Tokenizer
from jpaged.runner.compile_monitor import Watch
from jpaged.runner.memory import MemoryReport
from jpaged.scheduling.batch import ScheduledBatch, StepOutput, TokenLogprobs
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.cost import CostModel, StepShape
from jpaged.scheduling.request import Sequence as Stream

MOST_WORDS = 512
STRIDE = 7919  # a prime: the words of a text follow each other in no order


class Pretended(NamedTuple):
    output: StepOutput
    end: float


class PretendedExecutor:
    """Says words of the vocabulary, for each sequence others, the same for the same seed; never an
    end.  Log-probabilities are those of a model that finds all words equally likely."""

    is_usable = True
    jit_monitor = "off"
    latest_compilation = 0.0
    num_compiled = 0

    def __init__(
        self, costs: CostModel, buckets: BucketLadder, num_pages: int, words: Sequence[int]
    ):
        self.costs, self.buckets, self.num_pages, self.words = costs, buckets, num_pages, words
        self.late = Watch()
        self.script: deque[Bucket] = deque()  # shapes that steps must have, to do a run again
        self.host = self  # what it keeps of the preempted: nothing
        self._launched: deque[Bucket] = deque(maxlen=4)
        self._free_at = 0.0

    def bucket(self, batch: ScheduledBatch) -> Bucket:
        return self.script[0] if self.script else self.buckets.fit(batch)

    def submit(self, batch: ScheduledBatch) -> Pretended:
        bucket = self.bucket(batch)
        if self.script:
            self.script.popleft()
        self._launched.append(bucket)
        seconds = self.costs.seconds(StepShape.of(batch, bucket))
        self._free_at = max(self._free_at, time.monotonic()) + seconds
        words, count = self.words, len(self.words)
        # what a sequence says next depends on its seed and on how many tokens it has
        tokens = tuple(
            [
                words[
                    (sequence.seed + STRIDE * (len(sequence.tokens) + sequence.num_expected))
                    % count
                ]
                for sequence, _ in batch.items
            ]
        )
        output = StepOutput(tokens, self._logprobs(batch, tokens), self._prompt_logprobs(batch))
        return Pretended(output, self._free_at)

    def collect(self, handle: Pretended) -> StepOutput:
        time.sleep(max(0.0, handle.end - time.monotonic()))
        return handle.output

    def _logprobs(self, batch: ScheduledBatch, tokens: Sequence[int]) -> dict[int, TokenLogprobs]:
        asked = [sequence.request.params.num_logprobs for sequence, _ in batch.items]
        return {
            row: self._entry(tokens[row], most)
            for row, most in enumerate(asked)
            if most is not None
        }

    def _prompt_logprobs(
        self, batch: ScheduledBatch
    ) -> dict[int, tuple[int, tuple[TokenLogprobs, ...]]]:
        scored = {}
        for row, (sequence, count) in enumerate(batch.items):
            most = sequence.request.params.prompt_logprobs
            if most is not None and sequence.num_computed < sequence.num_prompt - 1:
                first = sequence.num_computed + 1
                targets = sequence.tokens[first : min(first + count, sequence.num_prompt)]
                scored[row] = first, tuple(self._entry(token, most) for token in targets)
        return scored

    def _entry(self, token: int, most: int) -> TokenLogprobs:
        likeliest = [token, *(word for word in self.words if word != token)][:most]
        logprob = -math.log(len(self.words))
        return TokenLogprobs(token, logprob, 1, tuple(likeliest), (logprob,) * len(likeliest))

    def pop_launched(self) -> list[Bucket]:
        """The shapes of the steps submitted since this was asked before; of the latest few."""
        launched = list(self._launched)
        self._launched.clear()
        return launched

    def culprits(self, batch: ScheduledBatch) -> list[Stream]:
        """Nobody's options make anything of a step that is pretended."""
        return []

    def memory_report(self) -> MemoryReport:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        shapes = len(self.buckets.all)
        return MemoryReport(0, 0, self.num_pages, 0, 0, shapes, shapes, 0, free)

    def twin(self) -> Self:
        return type(self)(self.costs, self.buckets, self.num_pages, self.words)

    def clear(self) -> None:
        """There is nothing to forget."""

    def close(self) -> None:
        """There is nothing to free."""

    def read_pages(self, numbers: object) -> tuple:
        """Of no layer."""
        return ()

    def write_pages(self, numbers: object, rows: tuple) -> None:
        """To no layer."""

    def in_plain_order(self, rows: tuple) -> tuple:
        return rows

    in_own_order = in_plain_order

    def parcel(self, sequence: Stream) -> tuple:
        return ()

    def put(self, sequence: Stream, parcel: tuple) -> None:
        """Keeps nothing."""


def words_of(tokenizer: Tokenizer | None, vocab: int, ends: Collection[int]) -> list[int]:
    """Tokens that are words, those that begin with a space if there are any; `ends` are none."""
    candidates = [token for token in range(vocab) if token not in ends]
    if tokenizer is None:
        return candidates[:MOST_WORDS]
    special = set(tokenizer.hf.all_special_ids)
    texts = {each: tokenizer.decode([each]) for each in candidates if each not in special}
    words = [token for token, text in texts.items() if text.strip().isalpha()]
    spaced = [token for token in words if texts[token][0].isspace()]
    return _some(spaced or words or candidates)


def _some(tokens: Sequence[int]) -> list[int]:
    """At most `MOST_WORDS` of them, from all over."""
    step = max(1, len(tokens) // MOST_WORDS)
    return list(tokens[::step][:MOST_WORDS])
