"""How far one request has come, as its reader saw it: for metrics, the log and traces."""

from collections import Counter
from dataclasses import dataclass, field

from jpaged.engine.outputs import RequestOutput, RequestStateStats


@dataclass(eq=False)
class Progress:
    """Times are on the clock of arrivals."""

    first: float | None = None  # when the first token came
    latest: float | None = None
    num_cached: int = 0  # of the prompt's tokens
    num_tokens_of: Counter[int] = field(default_factory=Counter)  # generated, by sample
    stats: RequestStateStats | None = None  # which the last delta brings
    finish_reasons: dict[int, str] = field(default_factory=dict)
    is_given_up: bool = False  # by the scheduler, a sample of it at least

    @property
    def num_tokens(self) -> int:
        return self.num_tokens_of.total()

    def add(self, output: RequestOutput, now: float) -> bool:
        """Notes a delta.  Whether it was the first."""
        is_first, self.latest = self.first is None, now
        if is_first:
            self.first, self.num_cached = now, output.num_cached_tokens
        if output.metrics is not None:
            self.stats = output.metrics
        for sample in output.outputs:
            self.num_tokens_of[sample.index] += len(sample.token_ids)
            if sample.finish_reason is not None:
                self.finish_reasons[sample.index] = sample.finish_reason
                self.is_given_up |= sample.finish_reason == "abort"
        return is_first
