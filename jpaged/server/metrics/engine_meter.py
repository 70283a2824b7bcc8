"""Counts what one engine does: once a step, and once for each sequence that ends.

A step's stats are cumulative, so they are only kept; of its outputs, equal gaps are counted
together.  That is what makes a step with a thousand sequences cheap.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable

from jpaged.engine.client import StepNews
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.stats import EngineStats
from jpaged.scheduling.counts import Counts
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.server.metrics import bounds
from jpaged.server.metrics.histogram import Histogram

NOTHING = EngineStats(0, 0, 0.0, 0, 0, 0, Counts())
THROUGHPUT_SECONDS = 10.0  # that an average of tokens a second is of


class EngineMeter:
    """The numbers of one engine since it was loaded.  `hear` is one of its listeners.

    before: what engines had done that died and were begun anew; stats count from zero then.
    """

    def __init__(self, stats: EngineStats):
        self.created = time.time()
        self.stats = stats
        self.before: Counter[str] = Counter()
        self.num_prompt_tokens = self.num_cached_tokens = self.num_generated_tokens = 0
        self.finished: Counter[str] = Counter()  # sequences, by reason
        self.outcomes: Counter[str] = Counter()  # requests, as the service saw them end
        self.first_token = Histogram(bounds.FIRST_TOKEN)
        self.gap = Histogram(bounds.PER_TOKEN)
        self.step_tokens = Histogram(bounds.STEP_TOKENS)
        self.padding = Histogram(bounds.SHARES)
        self.step_seconds = Histogram(bounds.STEP_SECONDS)
        self.host_seconds = Histogram(bounds.STEP_SECONDS)
        self.device_seconds = Histogram(bounds.STEP_SECONDS)
        self.policy_seconds = Histogram(bounds.STEP_SECONDS)
        self.tpot = Histogram(bounds.PER_TOKEN)
        self.latency = Histogram(bounds.REQUEST)
        self.queue = Histogram(bounds.REQUEST)
        self.inference = Histogram(bounds.REQUEST)
        self.prefill = Histogram(bounds.REQUEST)
        self.decode = Histogram(bounds.REQUEST)
        self.prompt_tokens = Histogram(bounds.TOKENS)
        self.computed_prompt_tokens = Histogram(bounds.TOKENS)
        self.generated_tokens = Histogram(bounds.TOKENS)
        self.preemptions = Histogram(bounds.PREEMPTIONS)
        self.max_generated_tokens = Histogram(bounds.TOKENS)
        self.asked_samples = Histogram(bounds.SAMPLES)
        self.asked_tokens = Histogram(bounds.TOKENS)
        self._timed = stats  # up to which its seconds are in the histograms
        self._spoke: dict[str, float] = {}  # request -> when it said something last
        self._marks: deque[tuple[float, int, int]] = deque()  # time, tokens of prompts, generated

    def hear(self, news: StepNews) -> None:
        self._take_stats(news.stats)
        for step in news.steps:
            self._take_step(step)
        now = news.steps[-1].end if news.steps else time.monotonic()
        for request_id in (*news.aborted, *news.failed):
            self._spoke.pop(request_id, None)
        self._take_outputs(news.outputs, now)
        for record in news.ended:
            # one that failed is counted by the service, as an error
            if record.request_id not in news.failed and not _is_overtaken(record, news):
                self._take_ended(record)
        self._mark(now)

    def _take_stats(self, stats: EngineStats) -> None:
        if stats.counts.num_steps < self.stats.counts.num_steps:  # it was begun anew
            self.before.update(totals(self.stats))
            self._timed = NOTHING
            self._spoke.clear()
        self.stats = stats
        num_steps = stats.counts.num_steps - self._timed.counts.num_steps
        if num_steps > 0:
            spent, until = stats.seconds, self._timed.seconds
            deciding, sending = spent.deciding - until.deciding, spent.sending - until.sending
            of_policy = stats.policy_seconds - self._timed.policy_seconds
            self.policy_seconds.add(of_policy / num_steps, num_steps)
            self.host_seconds.add((deciding + sending) / num_steps, num_steps)
            self.device_seconds.add((spent.waiting - until.waiting) / num_steps, num_steps)
            self._timed = stats

    def _take_step(self, step: StepRecord) -> None:
        self.step_tokens.add(step.num_tokens)
        self.step_seconds.add(step.end - step.start)
        if step.bucket is not None:
            self.padding.add(step.padding)

    def _take_outputs(self, outputs: Iterable[RequestOutput], now: float) -> None:
        spoke, since, num_tokens = self._spoke, Counter[float](), 0
        for output in outputs:
            samples, request_id = output.outputs, output.request_id
            for sample in samples:
                num_tokens += len(sample.token_ids)
            last = spoke.get(request_id)
            if last is not None:
                since[last] += len(samples)
            else:  # a prompt counts once, however many samples share it
                self.num_prompt_tokens += len(output.prompt_token_ids)
                self.num_cached_tokens += output.num_cached_tokens
            if output.finished:
                spoke.pop(request_id, None)
            else:
                spoke[request_id] = now
        for last, count in since.items():
            self.gap.add(now - last, count)
        self.num_generated_tokens += num_tokens

    def _take_ended(self, record: RequestRecord) -> None:
        """As vLLM, counts aborted ones but not how long they took."""
        self.finished[record.finish_reason or "abort"] += 1
        scheduled, first, last = record.scheduled, record.first_token, record.last_token
        if record.finish_reason == "abort" or None in (scheduled, first, last):
            return
        assert scheduled is not None and first is not None and last is not None
        self.latency.add(last - record.arrival)
        self.queue.add(scheduled - record.arrival)
        self.inference.add(last - scheduled)
        self.prefill.add(first - scheduled)
        self.decode.add(last - first)
        if record.tpot is not None:
            self.tpot.add(record.tpot)
        if record.index == 0:
            self.prompt_tokens.add(record.num_prompt)
            self.computed_prompt_tokens.add(record.num_prompt - record.num_cached)
        self.generated_tokens.add(record.num_output)
        self.preemptions.add(record.num_preemptions)

    def _mark(self, now: float) -> None:
        """Notes now and then how far it is."""
        marks = self._marks
        if not marks or now - marks[-1][0] > THROUGHPUT_SECONDS / 10:
            marks.append((now, self.num_prompt_tokens, self.num_generated_tokens))
            while now - marks[0][0] > THROUGHPUT_SECONDS:
                marks.popleft()

    def throughput(self, now: float) -> tuple[float, float]:
        """Tokens of prompts and generated ones, a second, of the latest seconds."""
        since = next((mark for mark in self._marks if now - mark[0] <= THROUGHPUT_SECONDS), None)
        if since is None:
            return 0.0, 0.0
        seconds = max(now - since[0], THROUGHPUT_SECONDS / 10)
        prompts, generated = self.num_prompt_tokens - since[1], self.num_generated_tokens - since[2]
        return prompts / seconds, generated / seconds

    @property
    def num_successes(self) -> int:
        return self.finished["stop"] + self.finished["length"]

    def totals(self) -> Counter[str]:
        """What only grows, also when an engine died and another one took its place."""
        found = Counter(totals(self.stats))
        found.update(self.before)
        return found


def _is_overtaken(record: RequestRecord, news: StepNews) -> bool:
    """Whether it was a beam that others of its search were better than."""
    is_dropped = record.is_steered and record.finish_reason == "abort"
    return is_dropped and record.request_id not in news.aborted


def totals(stats: EngineStats) -> dict[str, int]:
    counts = stats.counts
    return {
        "steps": counts.num_steps,
        "computed": counts.num_tokens,
        "recomputed": counts.num_recomputed,
        "preemptions": counts.num_preemptions,
        "pages_out": counts.num_pages_swapped_out,
        "pages_in": counts.num_pages_swapped_in,
        "queries": stats.prefix_cache_queries,
        "hits": stats.prefix_cache_hits,
        "compiled": stats.num_compiled,
        "compiled_late": stats.num_compiled_late,
    }
