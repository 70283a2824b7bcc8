"""The requests of workloads, seed by seed; all are looked at before anybody serves the first."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import CostModel
from jpaged.simulator.building import check_options
from jpaged.simulator.simulate import check_workload, simulate
from jpaged.simulator.workload import TimedRequest

Make = Callable[[int], Iterable[TimedRequest]]  # a workload for each seed
Draws = dict[str, list[list[TimedRequest]]]  # of each workload, for each seed
OF_SIMULATE = frozenset(inspect.signature(simulate).parameters)  # what is no engine's option


def draw(
    workloads: Mapping[str, Make],
    seeds: Iterable[int],
    cost_model: CostModel,
    options: Mapping[str, Any],
) -> Draws:
    """Of a workload that is the same for every seed, as a trace is, there is only one.

    Raises `ConfigError` for options that are wrong, and for requests that can never be served with
    them, naming workload and seed.
    """
    engine = {name: value for name, value in options.items() if name not in OF_SIMULATE}
    context = check_options(engine, cost_model).max_model_len
    assert context is not None
    draws: Draws = {}
    for workload, make in workloads.items():
        for seed in seeds:
            try:
                requests = list(make(seed))
                check_workload(requests, context)
            except ValueError as error:
                raise ConfigError(f"workload {workload!r}, seed {seed}: {error}") from error
            if not requests:
                raise ConfigError(f"workload {workload!r}, seed {seed}: it has no requests")
            if requests in draws.setdefault(workload, []):
                break
            draws[workload].append(requests)
    return draws
