"""Several policies on the same requests: who is better at what, and how sure that is.

Every policy serves the same arrivals, lengths and prompts, seed by seed (common random numbers), so
what counts is the difference within a seed: most of what chance does, it does to all of them.
"""

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jpaged.errors import ConfigError, PolicyWarning
from jpaged.policies import resolve
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.policy import Policy
from jpaged.simulator.draws import Make, draw
from jpaged.simulator.measures import summary_with_clients
from jpaged.simulator.routing import Router
from jpaged.simulator.simulate import simulate
from jpaged.simulator.workload import TimedRequest

# Student's law: how many standard errors hold 95 %, for 1, 2, … degrees of freedom; then the normal
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179),
    *(2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064),
    *(2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
NORMAL = 1.960


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and how far the truth may lie to either side with 95 % confidence: NaN
    for a single seed."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        count = len(values)
        if not all(map(math.isfinite, values)):  # a measure that some run has not
            return cls(math.nan, math.nan)
        if count < 2:
            return cls(statistics.fmean(values), math.nan)
        quantile = STUDENT[count - 2] if count - 2 < len(STUDENT) else NORMAL
        return cls(statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(count))

    @property
    def is_different(self) -> bool:
        """From zero, with 95 % confidence; a single seed gives none."""
        return abs(self.mean) > self.error


@dataclass(frozen=True)
class Comparison:
    """`found[workload, policy][measure]` has a value for each seed; the first policy is the one
    that others are measured against."""

    workloads: tuple[str, ...]
    policies: tuple[str, ...]
    found: Mapping[tuple[str, str], Mapping[str, list[float]]]

    def values(self, workload: str, policy: str, measure: str) -> list[float]:
        """NaN for what nobody has: another workload's client."""
        return self.found[workload, policy].get(measure, [math.nan])

    def estimate(self, workload: str, policy: str, measure: str) -> Estimate:
        return Estimate.of(self.values(workload, policy, measure))

    def difference(self, workload: str, policy: str, measure: str) -> Estimate:
        """To the first policy, as a share of its mean: 0.1 is ten percent more."""
        mine = self.values(workload, policy, measure)
        its = self.values(workload, self.policies[0], measure)
        scale = abs(statistics.fmean(its)) or math.nan
        pairs = zip(mine, its, strict=True)
        return Estimate.of([(mine - its) / scale for mine, its in pairs])

    def num_seeds(self, workload: str) -> int:
        return max(map(len, self.found[workload, self.policies[0]].values()))

    def as_table(self, measures: Sequence[str]) -> str:
        """In Markdown: means, and differences to the first policy where they are beyond chance."""
        lines = [["workload", "policy", *measures], ["---"] * (2 + len(measures))]
        for workload in self.workloads:
            for policy in self.policies:
                cells = [self._cell(workload, policy, measure) for measure in measures]
                lines.append([workload, policy, *cells])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _cell(self, workload: str, policy: str, measure: str) -> str:
        mean = f"{self.estimate(workload, policy, measure).mean:.4g}"
        change = self.difference(workload, policy, measure)
        if policy == self.policies[0] or math.isnan(change.mean):
            return mean
        if math.isnan(change.error):
            return f"{mean} ({change.mean:+.1%})"
        mark = f"{change.mean:+.1%} ± {change.error:.1%}" if change.is_different else "="
        return f"{mean} ({mark})"


def compare(
    policies: Mapping[str, str | Policy] | Iterable[str],
    workloads: Mapping[str, Make],
    cost_model: CostModel,
    num_seeds: int = 5,
    on_run: Callable[[str, str, int], object] = lambda workload, policy, seed: None,
    first_seed: int = 0,
    *,
    routers: Mapping[str, Router] | None = None,
    **options: Any,
) -> Comparison:
    """Serves every workload under every policy, for each seed from the first one on; a workload
    that is the same for all of them, such as a trace, once.

    policies: names, or objects by a name of your choice; the first is the baseline.  workloads: for
    a seed, the requests.  routers: by a name of your choice; each policy serves under every one, as
    "policy @ router".  options: of `simulate`.  on_run hears of each run that has ended.

    Raises `ConfigError` before the first run, not after hours, for what can be known then.
    """
    named = dict(policies) if isinstance(policies, Mapping) else {each: each for each in policies}
    if not named or not workloads or num_seeds < 1:
        raise ConfigError("a comparison needs a policy, a workload and a seed, at least")
    rivals = _rivals({name: resolve(policy) for name, policy in named.items()}, routers or {})
    seeds = range(first_seed, first_seed + num_seeds)
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for workload, drawn in draw(workloads, seeds, cost_model, options).items():
        for seed, requests in zip(seeds, drawn, strict=False):
            for name, (policy, routed) in rivals.items():
                summary = summary_of(policy, requests, cost_model, seed, options | routed)
                runs.setdefault((workload, name), []).append(summary)
                on_run(workload, name, seed)
    found = {key: by_measure(each) for key, each in runs.items()}
    return Comparison(tuple(workloads), tuple(rivals), found)


def by_measure(runs: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """A value for each run, NaN where it has none: not every client asks in every one."""
    runs = list(runs)
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: [run.get(name, math.nan) for run in runs] for name in names}


def _rivals(
    policies: Mapping[str, Policy], routers: Mapping[str, Router]
) -> dict[str, tuple[Policy, dict[str, Any]]]:
    """Each with the router it is under, if there are any."""
    if not routers:
        return {name: (policy, {}) for name, policy in policies.items()}
    return {
        f"{name} @ {place}": (policy, {"router": router})
        for place, router in routers.items()
        for name, policy in policies.items()
    }


def summary_of(
    policy: Policy,
    requests: list[TimedRequest],
    cost_model: CostModel,
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, float]:
    """The summary of a run, and its clients'.  Raises `ConfigError` where the policy raises: the
    one that replaces it would be measured under its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PolicyWarning)
        try:
            result = simulate(policy, requests, cost_model, **{"seed": seed, **options})
            return summary_with_clients(result)
        except PolicyWarning as warning:
            raise ConfigError(
                f"{warning}; here that would be measured under its name: mend it first"
            ) from warning.__context__
