"""Searches for a policy's best parameters: each trial serves the same requests, in virtual time.

    space ──► optuna ──parameters──► policy ──► simulate, seed by seed ──► score ─┐
                 ▲                                  └─ hopeless: given up         │
                 └────────────────────────────────────────────────────────────────┘
    best, default ──► compare, on seeds that no trial saw

What a search finds fits the requests it saw better than any others: only the last line says what
it is worth.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from jpaged.errors import ConfigError
from jpaged.policies import NAMES, resolve
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.policy import Policy
from jpaged.simulator.bench import Bench, Parameters
from jpaged.simulator.compare import compare
from jpaged.simulator.draws import Draws, Make, draw
from jpaged.simulator.measures import Bound, check_measures, is_more_better
from jpaged.simulator.spaces import Choice, Range, Space, check_ends, defaults_of
from jpaged.simulator.trials import BEST, DEFAULT, Search, Trial, best_of


def search(
    make_policy: str | Callable[..., Policy],
    space: Space,
    workloads: Mapping[str, Make],
    cost_model: CostModel,
    measure: str = "latency_mean",
    constraints: Iterable[str | Bound] = (),
    num_trials: int = 40,
    num_seeds: int = 3,
    seed: int = 0,
    *,
    name: str | None = None,
    num_held_out: int = 5,
    held_out: Mapping[str, Make] | None = None,
    on_trial: Callable[[Trial], object] = lambda trial: None,
    on_run: Callable[[str, str, int], object] = lambda workload, policy, seed: None,
    **options: Any,
) -> Search:
    """Tries `num_trials` parameters beside the defaults, and measures the best of them again.

    make_policy: a name, or what makes a policy of the parameters, a class, say.  space: a `Range`
    or a `Choice` for each parameter; those left out keep their defaults.  measure: of a
    simulation's summary; which way is better is known.  constraints: `"tpot_p99<0.05"`; they hold
    on average over the seeds, on each workload.  A policy that refuses requests looks fast: bound
    num_refused, or search for goodput.  name: what the policy is called.
    num_held_out, held_out: seeds for the best, and workloads if not the same; a trace is the same
    for every seed, and needs another.  seed: of the search and its requests; the same finds the
    same.  on_trial, on_run: hear of each trial, and of each run after them.  options: of
    `simulate`.

    Raises `ConfigError`, before the first run for what can be known then.
    """
    bounds = tuple(each if isinstance(each, Bound) else Bound.of(each) for each in constraints)
    check_measures([measure])
    counts = {"num_trials": num_trials, "num_seeds": num_seeds, "num_held_out": num_held_out}
    if not workloads or min(counts.values()) < 1:
        raise ConfigError(f"a search needs a workload, and at least 1 of each: {counts}")
    its_name, make = _maker(make_policy)
    name = name or its_name
    defaults = defaults_of(make, space, name)
    check_ends(make, space, name)
    first = seed * (num_seeds + num_held_out)
    draws = draw(workloads, range(first, first + num_seeds), cost_model, options)
    unseen = range(first + num_seeds, first + num_seeds + num_held_out)
    others = draw(held_out or workloads, unseen, cost_model, options)
    if held_out is None:
        _check_unseen(draws, others)

    bench = Bench(make, draws, first, cost_model, options, measure, bounds, defaults)
    trials = []
    for trial in _try(bench, space, num_trials, seed):
        trials.append(trial)
        on_trial(trial)
    policies = {DEFAULT: make(), BEST: make(**best_of(trials, measure).parameters)}
    again = compare(
        policies, held_out or workloads, cost_model, num_held_out, on_run, unseen[0], **options
    )
    return Search(name, dict(space), measure, bounds, tuple(trials), again)


def _maker(make_policy: str | Callable[..., Policy]) -> tuple[str, Callable[..., Policy]]:
    if isinstance(make_policy, str):
        resolve(make_policy)
        return make_policy, NAMES[make_policy]
    if not callable(make_policy):
        name = type(make_policy).__name__
        raise ConfigError(f"a search makes its policies: pass the class, {name}, not one of it")
    return getattr(make_policy, "__name__", type(make_policy).__name__), make_policy


def _check_unseen(seen: Draws, others: Draws) -> None:
    for workload, drawn in others.items():
        if any(requests in seen[workload] for requests in drawn):
            raise ConfigError(
                f"workload {workload!r} is the same for every seed: nothing of it is left for the "
                "best to be measured on; say which workloads are (held_out)"
            )


def _try(bench: Bench, space: Space, num_trials: int, seed: int) -> Iterator[Trial]:
    """The defaults, then what optuna proposes."""
    study = _study(bench, seed)
    distributions = {name: _distribution(domain) for name, domain in space.items()}
    *_, default = bench.measured(0, bench.baseline)
    if not math.isfinite(default.score):
        raise ConfigError(
            f"{bench.measure} is 0 with the defaults, or has no value: there is nothing to "
            "measure others by; choose another measure, or another workload"
        )
    yield default
    if all(value in space[name] for name, value in bench.baseline.items()):
        study.enqueue_trial(dict(bench.baseline))
        _measure(bench, 0, bench.baseline, study, study.ask(distributions))
    for number in range(1, num_trials + 1):
        asked = study.ask(distributions)
        yield _measure(bench, number, asked.params, study, asked)


def _study(bench: Bench, seed: int) -> optuna.Study:
    # where there are constraints, those that overstep them would set the median
    pruner = optuna.pruners.NopPruner() if bench.bounds else optuna.pruners.MedianPruner()
    with _quiet():
        return optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=pruner,
            direction="maximize" if is_more_better(bench.measure) else "minimize",
        )


def _measure(
    bench: Bench, number: int, parameters: Parameters, study: optuna.Study, asked: optuna.Trial
) -> Trial:
    """Seed by seed, until it is done or hopeless, and tells optuna."""
    trial = None
    for index, trial in enumerate(bench.measured(number, parameters)):
        if math.isfinite(trial.score):
            asked.report(trial.score, index)
            if trial.is_pruned and asked.should_prune():
                break
    assert trial is not None
    if not math.isfinite(trial.score):
        study.tell(asked, state=TrialState.FAIL)
    elif trial.is_pruned:
        study.tell(asked, state=TrialState.PRUNED)
    else:
        asked.set_constraint("excess", trial.excess)
        study.tell(asked, trial.score)
    return trial


def _distribution(domain: Range | Choice) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if domain.is_whole:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.is_log)
    return FloatDistribution(float(domain.low), float(domain.high), log=domain.is_log)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna says on stderr that it made a study."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
