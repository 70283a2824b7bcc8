"""Serves the same requests with an engine and in a simulation, and holds one against the other.

cost table ─► simulation ─► the rate that saturates ─► loads below, near and past it
                                                          │ the same arrivals
                                 engine, in real time ◄───┴──► simulation
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from statistics import fmean

import numpy as np

from jpaged.calibration.accuracy import Comparison, figures, is_saturated
from jpaged.calibration.calibrate import frozen, options_of, shape_of
from jpaged.calibration.fit import PAUSE, taken
from jpaged.calibration.meter import Measured, metered
from jpaged.calibration.open_loop import serve
from jpaged.calibration.pace import pace
from jpaged.calibration.workload import Known, conversations
from jpaged.engine.llm_engine import LLMEngine
from jpaged.errors import ConfigError
from jpaged.scheduling.events import RequestRecord
from jpaged.scheduling.policy import Policy
from jpaged.simulator.result import Result
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

LOADS = (0.5, 0.85, 1.2)  # of the rate that saturates: below, near and past it
PROBED = 8  # requests a seat, to find that rate
FEWEST = 20  # requests: with fewer there is nothing to say about a 99th percentile


def validate(
    engine: LLMEngine,
    table: FromTable,
    *,
    policy: str | Policy = "fcfs",
    loads: Sequence[float] = LOADS,
    seconds: float = 30.0,
    repeats: int = 2,
    seed: int = 1,
    on_run: Callable[[float, int], object] = lambda load, run: None,
) -> list[Comparison]:
    """Compares them at each load, over requests that arrive for so many seconds.

    The engine must have nothing to do; it is to be another seed than the table was calibrated with.
    on_run(load, run) hears of each run of the engine before it begins.  Raises `ConfigError` if the
    table is of another engine, or a number cannot be.
    """
    check_amounts(loads, seconds, repeats)
    table.check(options_of(engine), shape_of(engine))
    engine.set_policy(policy)
    capacity = saturation_rate(engine, table, policy, seed)
    comparisons = []
    for load in loads:
        rate = load * capacity
        workload = requests(engine, rate, max(FEWEST, round(rate * seconds)), seed)
        runs, steps, paces = [], [], [pace(engine)]
        for run in range(repeats):
            on_run(load, run)
            result, measured = run_of(engine, workload)
            runs.append([result])
            steps += measured
            paces.append(pace(engine))
        simulated = simulate(policy, workload, table, **options_of(engine))
        slowness = fmean(paces) / table.pace if table.pace else 1.0
        found = compare(load, rate, runs, steps, [simulated], table)
        comparisons.append(replace(found, slowness=slowness))
    return comparisons


def check_amounts(loads: Sequence[float], seconds: float, repeats: int, turn: float = 1.0) -> None:
    """Raises `ConfigError` for what nobody can serve."""
    amounts = {"seconds": seconds, "turn": turn, "repeats": repeats, "loads": min(loads, default=0)}
    wrong = [f"{name}={value:g}" for name, value in amounts.items() if not 0 < value < inf]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)}: these must be above 0, and at least one load given")


def run_of(engine: LLMEngine, workload: list[Known]) -> tuple[Result, list[Measured]]:
    """What an engine with an empty prefix cache does with a workload, and its steps."""
    engine.reset_prefix_cache()
    with frozen(), metered(engine) as meter:
        return serve(engine, workload), meter.steps


def requests(engine: LLMEngine, rate: float, count: int, seed: int) -> list[Known]:
    """The workload of an engine; at rate inf all of it arrives at once."""
    context, vocab = engine.sizes.max_model_len, engine.model.vocab
    return conversations(count, rate, seed, context, vocab)


def crowd(engine: LLMEngine, seed: int) -> list[Known]:
    """So many at once that most of them wait."""
    return requests(engine, inf, PROBED * engine.sizes.max_num_seqs, seed)


def compare(
    load: float,
    rate: float,
    runs: Sequence[Sequence[Result]],
    steps: Sequence[Measured],
    simulated: Sequence[Result],
    table: FromTable,
) -> Comparison:
    """Of runs of the engine at one load, and all their steps, with a simulation.

    A run, and a simulation, may consist of parts, each of which began with an engine at rest.
    """
    predicted = np.array([table.seconds(each.shape) for each in steps])
    measured = taken(steps, predicted, np.array([table.spread(each.shape) for each in steps]))
    return Comparison(
        load=load,
        rate=rate,
        num_requests=len(_ended(simulated)),
        measured=tuple(figures(_ended(run)) for run in runs),
        simulated=figures(_ended(simulated)),
        is_saturated=is_saturated([part.ended for run in runs for part in run]),
        step_error=float(np.median(abs(predicted / measured - 1))),
        step_bias=float(predicted.sum() / measured.sum() - 1),
        host_bias=_host_bias(steps, table),
    )


def _host_bias(steps: Sequence[Measured], table: FromTable) -> float:
    foretold = measured = 0.0
    for each in steps:
        before, after = table.host(each.shape), table.entering(each.shape, each.num_ended)
        foretold += before + after
        measured += min(each.host, PAUSE * before)
        measured += after if each.entering is None else min(each.entering, PAUSE * after)
    return foretold / measured - 1


def _ended(parts: Sequence[Result]) -> list[RequestRecord]:
    return [each for part in parts for each in part.ended]


def saturation_rate(engine: LLMEngine, table: FromTable, policy: str | Policy, seed: int) -> float:
    """Requests a second beyond which the queue grows, by simulation.

    All arrive at once: what is computed while others wait is what the engine can do.  The first
    half of that time, when all seats are filled with prompts together, does not count.
    """
    workload = crowd(engine, seed + 1)
    result = simulate(policy, workload, table, **options_of(engine))
    crowded = [each for each in result.records if each.num_waiting]
    crowded = crowded[len(crowded) // 2 :]
    if len(crowded) < 2:
        raise ConfigError(f"{len(workload)} requests do not crowd the engine; lower max_num_seqs")
    tokens = sum(each.num_tokens for each in crowded)
    per_request = fmean(each.num_final - 1 for each in workload)  # the last is never computed
    return tokens / (crowded[-1].end - crowded[0].start) / per_request
