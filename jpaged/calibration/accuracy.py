"""How far a simulation is from what it simulates, in the figures that people quote."""

from collections.abc import Sequence
from dataclasses import dataclass

from jpaged.scheduling.events import RequestRecord
from jpaged.simulator.result import TIMES

QUANTILES = {"p50": 0.5, "p99": 0.99}
AIMS = {"p50": 0.05, "p99": 0.1}  # of a figure, below saturation
GROWTH = 0.1  # of the arrivals: so many more stay than leave


@dataclass(frozen=True)
class Comparison:
    """What an engine did at one load, once or several times with the same arrivals, and what its
    simulation said of it: seconds, by names such as `ttft_p99`.

    is_saturated: see `is_saturated`, of the engine's runs.  step_error, step_bias: of the cost
    model for the engine's very steps, the median of relative errors, and how much longer it takes
    all of them together for; host_bias: the latter of the host's work for them.  slowness: what a
    step of one sequence took, over what it took when the costs were measured: 1.3 is a machine that
    was slower by a third, which is no error of the simulation.
    """

    load: float
    rate: float  # requests a second
    num_requests: int
    measured: tuple[dict[str, float], ...]
    simulated: dict[str, float]
    is_saturated: bool
    step_error: float = 0.0
    step_bias: float = 0.0
    host_bias: float = 0.0
    slowness: float = 1.0

    def mean(self, name: str) -> float:
        return sum(run[name] for run in self.measured) / len(self.measured)

    def error(self, name: str) -> float:
        """Simulated over the mean of what was measured, less one."""
        return self.simulated[name] / self.mean(name) - 1

    def floor(self, name: str) -> float:
        """How far a run of the engine is from its mean, on average: no simulation can be nearer to
        a single run.  0 if there was one run."""
        mean = self.mean(name)
        return sum(abs(run[name] / mean - 1) for run in self.measured) / len(self.measured)

    @property
    def beyond(self) -> list[str]:
        """The names of figures whose error is above the aim."""
        aims = {name: AIMS.get(name.split("_")[-1]) for name in self.simulated}
        return [name for name, aim in aims.items() if aim and abs(self.error(name)) > aim]


def figures(records: Sequence[RequestRecord]) -> dict[str, float]:
    """Mean, median and 99th percentile of TTFT, TPOT and latency, in seconds."""
    found = {}
    for name in TIMES:
        values = sorted(v for each in records if (v := getattr(each, name)) is not None)
        if values:
            found[f"{name}_mean"] = sum(values) / len(values)
            found |= {f"{name}_{q}": quantile(values, at) for q, at in QUANTILES.items()}
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values: between the two nearest, in proportion."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def is_saturated(runs: Sequence[Sequence[RequestRecord]]) -> bool:
    """Whether requests arrived faster than they were served, in runs of the same kind.

    Then those who are there, running or waiting, become more and more as long as others arrive: in
    the last third of that time, on average, more than in the third before, by at least GROWTH of
    the requests that arrived in a third.  The first third fills the engine, at any load.  In less
    time than requests take from arrival to end nobody can tell.
    """
    num_arrived = sum(len(run) for run in runs)
    return sum(_growth(run) for run in runs if run) > GROWTH * num_arrived / 3


def _growth(records: Sequence[RequestRecord]) -> float:
    """How many more are present in the last third of the arrivals than in the second, over time."""
    first = min(each.arrival for each in records)
    third = (max(each.arrival for each in records) - first) / 3
    before = _mean_present(records, first + third, first + 2 * third)
    return _mean_present(records, first + 2 * third, first + 3 * third) - before


def _mean_present(records: Sequence[RequestRecord], start: float, end: float) -> float:
    """Requests between arrival and end, over time."""
    if end <= start:
        return 0.0
    spans = (min(each.last_token or end, end) - max(each.arrival, start) for each in records)
    return sum(max(0.0, span) for span in spans) / (end - start)
