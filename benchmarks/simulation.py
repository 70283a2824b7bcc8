"""How true the simulation is: an engine is calibrated and validated, piece by piece.

    python benchmarks/simulation.py MODEL --out DIR

What `jpaged calibrate` and `jpaged validate` do, in one process, so that each piece of some ten
seconds can wait until nobody else computes, and is done again if somebody did meanwhile.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import machine

from jpaged.calibration.accuracy import Comparison
from jpaged.calibration.calibrate import build_engine, frozen, options_of, shape_of, table_of
from jpaged.calibration.loads import Loads
from jpaged.calibration.meter import Measured, metered
from jpaged.calibration.open_loop import serve
from jpaged.calibration.validate import LOADS, compare, requests, saturation_rate
from jpaged.cli.calibrate import report as report_costs
from jpaged.cli.validate import as_json, report
from jpaged.engine.llm_engine import LLMEngine
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

OPTIONS = {"max_model_len": 512, "num_pages": 4096}
FOREIGN = 0.1  # cores; more spoils a piece
MOST_TRIES = 6
SEED = 1


def undisturbed[Result](
    piece: Callable[[], Result],
    alone: Callable[[], AbstractContextManager] = nullcontext,
) -> Result:
    """Runs a piece when nobody else computes, again if somebody did; the last try counts anyway.

    alone: holds others off meanwhile, where one can.
    """
    for _ in range(MOST_TRIES):
        while machine.foreign_load() > FOREIGN:
            time.sleep(1)
        with alone():
            start, before = time.perf_counter(), machine.busy_elsewhere()
            result = piece()
            load = machine.cores_since(before, time.perf_counter() - start)
        print(f"{time.perf_counter() - start:.0f} s, others took {load:.2f} cores", flush=True)
        if load <= FOREIGN:
            break
    return result


def measure(engine: LLMEngine, seconds: float, seed: int) -> list[Measured]:
    """Half of the time designed steps, half of it a mixture."""
    loads = Loads(engine, seed)
    with frozen(), metered(engine) as meter:
        start = time.perf_counter()
        loads.designed(seconds / 2)
        loads.mixed(max(0.0, seconds - (time.perf_counter() - start)))
    return meter.steps


def calibrated(
    engine: LLMEngine, args: argparse.Namespace, alone: Callable[[], AbstractContextManager]
) -> FromTable:
    steps = []
    for seed in range(args.pieces):
        steps += undisturbed(lambda seed=seed: measure(engine, args.seconds, seed), alone)
    return table_of(engine, steps)


def run(
    args: argparse.Namespace, alone: Callable[[], AbstractContextManager] = nullcontext
) -> None:
    engine = build_engine(args.model, **OPTIONS)
    Loads(engine, SEED).mixed(3.0)  # memory is touched for the first time
    table = FromTable.load(args.costs) if args.costs else calibrated(engine, args, alone)
    table.check(options_of(engine), shape_of(engine))
    name = Path(args.out) / f"simulation-{table.of_model}"
    table.save(f"{name}-costs.json")
    print("\n".join(report_costs(table)), flush=True)
    capacity = saturation_rate(engine, table, "fcfs", SEED)
    found: list[Comparison] = []
    for load in args.loads:
        rate = load * capacity
        workload = requests(engine, rate, round(rate * args.seconds), SEED)
        runs, metered_steps = [], []

        def serve_once(workload=workload):
            engine.reset_prefix_cache()
            with frozen(), metered(engine) as meter:
                return serve(engine, workload), meter.steps

        for _ in range(args.repeats):
            result, its_steps = undisturbed(serve_once, alone)
            runs.append(result)
            metered_steps += its_steps
        simulated = simulate("fcfs", workload, table, **options_of(engine))
        found.append(compare(load, rate, runs, metered_steps, simulated, table))
        print("\n".join(report(found[-1])), flush=True)
    said = {each: getattr(args, each) for each in ("seconds", "pieces", "repeats")}
    told = {"machine": machine.describe(), "arguments": said, "options": OPTIONS}
    told["loads"] = [as_json(each) for each in found]
    Path(f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def main(alone: Callable[[], AbstractContextManager] = nullcontext) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--costs", help="a table that is there already; else one is measured")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a piece")
    parser.add_argument("--pieces", type=int, default=3, help="of calibration")
    parser.add_argument("--repeats", type=int, default=3, help="of each load")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    run(parser.parse_args(), alone)


if __name__ == "__main__":
    main()
