"""What a benchmark comes to, in the figures and words of `vllm bench serve`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jpaged.bench.calls import Answer

WIDTH = 50
METRICS = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
}


@dataclass(frozen=True)
class Figures:
    """goals: at most so many seconds of ttft, tpot, e2el; of a good answer each is kept."""

    seconds: float
    answers: Sequence[Answer]
    goals: Mapping[str, float]

    @cached_property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.error]

    @cached_property
    def num_input(self) -> int:
        return sum(answer.num_prompt for answer in self.good)

    @cached_property
    def num_output(self) -> int:
        return sum(answer.num_output for answer in self.good)

    @cached_property
    def samples(self) -> dict[str, list[float]]:
        """Seconds of each metric; gaps of all streams together."""
        tpots = [answer.tpot for answer in self.good]
        return {
            "ttft": [answer.ttft for answer in self.good],
            "tpot": [tpot for tpot in tpots if tpot is not None],
            "itl": [gap for answer in self.good for gap in answer.gaps],
            "e2el": [answer.latency for answer in self.good],
        }

    @property
    def goodput(self) -> float:
        """Answers a second that kept every goal."""
        return sum(map(self._keeps, self.good)) / self.seconds

    def _keeps(self, answer: Answer) -> bool:
        found = {"ttft": answer.ttft, "tpot": answer.tpot or 0.0, "e2el": answer.latency}
        return all(found[name] <= most for name, most in self.goals.items())

    @property
    def peak_output(self) -> float:
        """Tokens in the busiest second; a chunk has its share of its answer's."""
        begin = min((answer.begin for answer in self.good), default=0.0)
        seconds = defaultdict[int, float](float)
        for answer in self.good:
            for chunk in answer.chunks:
                seconds[int(chunk - begin)] += answer.num_output / len(answer.chunks)
        return max(seconds.values(), default=0.0)

    @property
    def peak_concurrency(self) -> int:
        """Most under way at a time."""
        begun = [(answer.begin, 1) for answer in self.answers]
        ended = [(answer.end, -1) for answer in self.answers]
        now = most = 0
        for _, change in sorted([*begun, *ended]):
            now += change
            most = max(most, now)
        return most

    def totals(self) -> dict[str, float]:
        """By vLLM's names in its result file."""
        return {
            "duration": self.seconds,
            "completed": len(self.good),
            "failed": len(self.answers) - len(self.good),
            "total_input_tokens": self.num_input,
            "total_output_tokens": self.num_output,
            "request_throughput": len(self.good) / self.seconds,
            **({"request_goodput": self.goodput} if self.goals else {}),
            "output_throughput": self.num_output / self.seconds,
            "total_token_throughput": (self.num_input + self.num_output) / self.seconds,
            "max_output_tokens_per_s": self.peak_output,
            "max_concurrent_requests": self.peak_concurrency,
        }

    def times(self, metric: str, percentiles: Sequence[float]) -> dict[str, float]:
        """Milliseconds: mean, median, std and percentiles."""
        found = np.array(self.samples[metric] or [0.0]) * 1000
        spread = {f"p{each:g}": float(np.percentile(found, each)) for each in percentiles}
        usual = {"mean": found.mean(), "median": np.median(found), "std": found.std()}
        return {f"{name}_{metric}_ms": float(value) for name, value in (usual | spread).items()}


def as_block(
    figures: Figures,
    metrics: Sequence[str],
    percentiles: Sequence[float],
    max_concurrency: int | None = None,
    request_rate: float | None = None,
) -> list[str]:
    """The lines that `vllm bench serve` ends with."""
    totals = figures.totals()
    rows = [
        ("Successful requests:", totals["completed"]),
        ("Failed requests:", totals["failed"]),
        ("Maximum request concurrency:", max_concurrency),
        ("Request rate configured (RPS):", request_rate),
        ("Benchmark duration (s):", totals["duration"]),
        ("Total input tokens:", totals["total_input_tokens"]),
        ("Total generated tokens:", totals["total_output_tokens"]),
        ("Request throughput (req/s):", totals["request_throughput"]),
        ("Request goodput (req/s):", totals.get("request_goodput")),
        ("Output token throughput (tok/s):", totals["output_throughput"]),
        ("Peak output token throughput (tok/s):", totals["max_output_tokens_per_s"]),
        ("Peak concurrent requests:", float(totals["max_concurrent_requests"])),
        ("Total token throughput (tok/s):", totals["total_token_throughput"]),
    ]
    lines = [" Serving Benchmark Result ".center(WIDTH, "=")]
    lines += [_row(name, value) for name, value in rows if value is not None]
    for metric in filter(figures.samples.get, metrics):  # of nothing there is no mean
        short, long = METRICS[metric]
        lines.append(long.center(WIDTH, "-"))
        for name, value in figures.times(metric, percentiles).items():
            word = name.partition("_")[0]
            if word != "std":
                lines.append(_row(f"{word.capitalize()} {short} (ms):", value))
    return [*lines, "=" * WIDTH]


def _row(name: str, value: float) -> str:
    return f"{name:<40} {value:<10.2f}" if isinstance(value, float) else f"{name:<40} {value:<10}"
