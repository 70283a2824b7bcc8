"""How true the simulation is: an engine is calibrated and validated, piece by piece.

    python benchmarks/simulation.py MODEL --out DIR

What `jpaged calibrate` and `jpaged validate` do, in one process and in turns: a piece of
calibration, then each load served once, and so on.  So a machine that is slower for some minutes,
as shared ones are, is slower for both.  A piece is done again if somebody else computed, or the
machine changed its speed meanwhile.  What is served has another seed, and other laws of length,
than what is measured.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import machine

from jpaged.calibration.accuracy import Comparison
from jpaged.calibration.calibrate import (
    Steps,
    build_engine,
    frozen,
    measure,
    options_of,
    table_of,
)
from jpaged.calibration.loads import Loads
from jpaged.calibration.meter import Measured, metered
from jpaged.calibration.open_loop import serve
from jpaged.calibration.pace import pace
from jpaged.calibration.validate import LOADS, compare, requests, saturation_rate
from jpaged.calibration.workload import Known
from jpaged.cli.calibrate import report as report_costs
from jpaged.cli.validate import as_json, report
from jpaged.engine.llm_engine import LLMEngine
from jpaged.simulator.result import Result
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

OPTIONS = {"max_model_len": 512, "num_pages": 4096}
FOREIGN = 0.1  # cores; more spoils a piece
DRIFT = 0.12  # of the engine's pace; a machine's speeds are a third apart
MOST_TRIES = 5
SEED = 1


class Undisturbed:
    """Runs pieces when the engine is as fast as at first, and again if it was not at the end, or
    somebody else computed meanwhile; the last try counts anyway.

    alone: holds others off meanwhile, where one can.
    """

    def __init__(self, engine: LLMEngine, alone: Callable[[], AbstractContextManager]):
        self.engine, self.alone = engine, alone
        self.pace = pace(engine)

    def __call__[Result](self, piece: Callable[[], Result]) -> Result:
        for _ in range(MOST_TRIES):
            with self.alone():
                before = self._slowness()
                start, ticks = time.perf_counter(), machine.busy_elsewhere()
                result = piece()
                seconds = time.perf_counter() - start
                load, after = machine.cores_since(ticks, seconds), self._slowness()
            print(
                f"{seconds:.0f} s, others took {load:.2f} cores, the engine was {before:+.0%} and "
                f"{after:+.0%} slower than at first",
                flush=True,
            )
            if load <= FOREIGN and max(abs(before), abs(after)) <= DRIFT:
                break
        return result

    def _slowness(self) -> float:
        return pace(self.engine) / self.pace - 1


def serve_once(engine: LLMEngine, workload: list[Known]) -> tuple[Result, list[Measured]]:
    engine.reset_prefix_cache()
    with frozen(), metered(engine) as meter:
        return serve(engine, workload), meter.steps


def run(
    args: argparse.Namespace, alone: Callable[[], AbstractContextManager] = nullcontext
) -> None:
    engine = build_engine(args.model, **OPTIONS)
    Loads(engine, SEED).mixed(3.0)  # memory is touched for the first time
    steps, capacity, undisturbed = Steps(), 0.0, Undisturbed(engine, alone)
    runs: dict[float, list] = {load: [] for load in args.loads}
    for turn in range(args.repeats):
        found = undisturbed(partial(measure, Loads(engine, turn), args.seconds))
        steps = Steps(steps.mixed + found.mixed, steps.designed + found.designed)
        if not capacity:
            capacity = saturation_rate(engine, table_of(engine, steps), "fcfs", SEED)
            workloads = {load: workload_at(engine, load * capacity, args) for load in runs}
        for load, workload in workloads.items():
            runs[load].append(undisturbed(partial(serve_once, engine, workload)))
    table = replace(table_of(engine, steps), pace=undisturbed.pace)
    print("\n".join(report_costs(table)), flush=True)
    comparisons = [
        compare(
            load,
            load * capacity,
            [result for result, _ in runs[load]],
            [step for _, metered_steps in runs[load] for step in metered_steps],
            simulate("fcfs", workload, table, **options_of(engine)),
            table,
        )
        for load, workload in workloads.items()
    ]
    print("\n".join(line for each in comparisons for line in report(each)), flush=True)
    save(args, table, comparisons)


def workload_at(engine: LLMEngine, rate: float, args: argparse.Namespace) -> list[Known]:
    return requests(engine, rate, round(rate * args.seconds), SEED)


def save(args: argparse.Namespace, table: FromTable, found: list[Comparison]) -> None:
    name = Path(args.out) / f"simulation-{table.of_model}"
    table.save(f"{name}-costs.json")
    said = {each: getattr(args, each) for each in ("seconds", "repeats")}
    told = {"machine": machine.describe(), "arguments": said, "options": OPTIONS}
    told["loads"] = [as_json(each) for each in found]
    Path(f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def main(alone: Callable[[], AbstractContextManager] = nullcontext) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--seconds", type=float, default=12.0, help="of a piece")
    parser.add_argument("--repeats", type=int, default=3, help="of all pieces")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    run(parser.parse_args(), alone)


if __name__ == "__main__":
    main()
