"""Measures parameters of a policy, all of them on the same requests."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.policy import Policy
from jpaged.simulator.compare import by_measure, summary_of
from jpaged.simulator.draws import Draws
from jpaged.simulator.measures import Bound
from jpaged.simulator.spaces import Value
from jpaged.simulator.trials import Found, Trial, mean_of

Parameters = Mapping[str, Value]


@dataclass
class Bench:
    """What parameters are worth, relative to the baseline, whose parameters are measured first.

    Nothing is served twice: the same parameters have the same summaries.
    """

    make: Callable[..., Policy]
    draws: Draws
    first_seed: int
    cost_model: CostModel
    options: Mapping[str, Any]
    measure: str
    bounds: tuple[Bound, ...]
    baseline: Parameters
    _known: dict[tuple[object, ...], dict[str, float]] = field(default_factory=dict)

    @property
    def num_seeds(self) -> int:
        return max(map(len, self.draws.values()))

    def measured(self, number: int, parameters: Parameters) -> Iterator[Trial]:
        """What is known of them after each seed; the last knows all."""
        for count in range(1, self.num_seeds + 1):
            found = self._found(parameters, count)
            base = self._found(self.baseline, count)
            score = statistics.fmean(self._ratio(found, base, workload) for workload in found)
            is_cut = count < self.num_seeds
            yield Trial(number, parameters, found, score, self._excess(found), is_cut)

    def _found(self, parameters: Parameters, count: int) -> Found:
        """Of the first so many seeds; of a workload that is the same for all, of that one."""
        found: dict[str, dict[str, list[float]]] = {}
        for workload, drawn in self.draws.items():
            runs = [self._run(parameters, workload, i) for i in range(min(count, len(drawn)))]
            found[workload] = by_measure(runs)
        return found

    def _run(self, parameters: Parameters, workload: str, index: int) -> dict[str, float]:
        key = (workload, index, *sorted(parameters.items()))
        if key not in self._known:
            policy, requests = self.make(**parameters), self.draws[workload][index]
            seed = self.first_seed + index
            self._known[key] = summary_of(policy, requests, self.cost_model, seed, self.options)
        return self._known[key]

    def _ratio(self, found: Found, base: Found, workload: str) -> float:
        scale = mean_of(base, workload, self.measure)
        return mean_of(found, workload, self.measure) / (scale or math.nan)

    def _excess(self, found: Found) -> float:
        return max(
            (
                bound.excess(mean_of(found, workload, bound.measure))
                for bound in self.bounds
                for workload in found
            ),
            default=0.0,
        )
