"""What a search tried, and what it found."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jpaged.simulator.compare import Comparison
from jpaged.simulator.measures import Bound, is_more_better
from jpaged.simulator.spaces import Range, Space, Value

if TYPE_CHECKING:
    import pandas as pd

Found = Mapping[str, Mapping[str, list[float]]]  # by workload and measure, a value for each seed
DEFAULT, BEST = "default", "best"


def mean_of(found: Found, workload: str, measure: str) -> float:
    """NaN for what no run has."""
    return statistics.fmean(found[workload].get(measure, [math.nan]))


@dataclass(frozen=True)
class Trial:
    """Parameters, and what came of them.

    score: the measure as a share of what it is with the defaults on the same requests, averaged
    over workloads; NaN where it has no value.  excess: how far the worst
    constraint is overstepped, as a share of its limit.  is_pruned: it was given up after some of
    the seeds.
    """

    number: int
    parameters: Mapping[str, Value]
    found: Found
    score: float
    excess: float = 0.0
    is_pruned: bool = False

    def mean(self, workload: str, measure: str) -> float:
        return mean_of(self.found, workload, measure)

    @property
    def num_seeds(self) -> int:
        return max(len(values) for each in self.found.values() for values in each.values())

    @property
    def state(self) -> str:
        """default, kept, pruned, over (a constraint) or failed (the measure has no value)."""
        if not math.isfinite(self.score):
            return "failed"
        if self.excess:
            return "over"
        return "pruned" if self.is_pruned else ("kept" if self.number else DEFAULT)


def rank(trial: Trial, measure: str) -> tuple[float, ...]:
    """The lowest is the best: of those that were measured on all seeds and keep the constraints, or
    else come closest to it, the one of the best score; the first of equals."""
    is_failed = not math.isfinite(trial.score)
    score = 0.0 if is_failed else -trial.score if is_more_better(measure) else trial.score
    return is_failed, trial.is_pruned, trial.excess, score, trial.number


def best_of(trials: Iterable[Trial], measure: str) -> Trial:
    return min(trials, key=lambda trial: rank(trial, measure))


@dataclass(frozen=True)
class Search:
    """trials: the first is of the defaults.  held_out: `BEST` beside `DEFAULT`, on requests that
    the search did not see."""

    policy: str
    space: Space
    measure: str
    constraints: tuple[Bound, ...]
    trials: tuple[Trial, ...]
    held_out: Comparison

    @property
    def best(self) -> Trial:
        return best_of(self.trials, self.measure)

    @property
    def best_parameters(self) -> dict[str, Any]:
        """What the policy is made with, as keywords."""
        return dict(self.best.parameters)

    @property
    def at_ends(self) -> dict[str, Range]:
        """The parameters that are best at an end of their range, as far as one can tell."""
        return {
            name: domain
            for name, value in self.best.parameters.items()
            if isinstance(domain := self.space[name], Range) and domain.is_at_end(value)
        }

    @property
    def workloads(self) -> tuple[str, ...]:
        return tuple(self.trials[0].found)

    @property
    def measures(self) -> tuple[str, ...]:
        """The one that was searched for, then those of the constraints."""
        return tuple(dict.fromkeys((self.measure, *(each.measure for each in self.constraints))))

    @property
    def table(self) -> "pd.DataFrame":
        """A row a trial: its parameters, means over its seeds of what was searched for and bounded
        (`measure @ workload` where there are several), score, excess, seeds and state."""
        import pandas as pd  # an extra, which nothing else here needs

        return pd.DataFrame([self._row(trial) for trial in self.trials])

    def _row(self, trial: Trial) -> dict[str, object]:
        means = {
            measure if len(self.workloads) == 1 else f"{measure} @ {workload}": trial.mean(
                workload, measure
            )
            for measure in self.measures
            for workload in self.workloads
        }
        ends = {"score": trial.score, "excess": trial.excess, "num_seeds": trial.num_seeds}
        return {
            "trial": trial.number,
            **trial.parameters,
            **means,
            **ends,
            "state": trial.state,
        }
