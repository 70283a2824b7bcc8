"""How true the simulation is: an engine is calibrated and validated, piece by piece.

    python benchmarks/simulation.py MODEL --out DIR

What `jpaged calibrate` and `jpaged validate` do, in one process and in turns: a few seconds of
calibration, then a few of each load, and so on.  A shared machine has several speeds, a third
apart, and costs of one do not foretell another: pieces begin at the usual one, however long that
takes, and are done again if they did not end so, or if somebody else computed.  What is served has
other seeds, and other laws of length, than what is measured.  Two repetitions of the same requests
tell how far an engine is from itself.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median

import machine

from jpaged.calibration.accuracy import Comparison
from jpaged.calibration.calibrate import (
    Steps,
    build_engine,
    frozen,
    options_of,
    table_of,
    watched,
)
from jpaged.calibration.loads import Loads
from jpaged.calibration.meter import Measured, metered
from jpaged.calibration.open_loop import serve
from jpaged.calibration.pace import pace
from jpaged.calibration.validate import FEWEST, LOADS, compare, requests, saturation_rate
from jpaged.calibration.workload import Known
from jpaged.cli.calibrate import report as report_costs
from jpaged.cli.validate import as_json, report
from jpaged.engine.llm_engine import LLMEngine
from jpaged.simulator.result import Result
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

OPTIONS = {"max_model_len": 512, "num_pages": 4096}
FOREIGN = 0.1  # cores; more spoils a piece
DRIFT = 0.25  # of the engine's usual pace; more spoils it, too
LOOKS, PAUSE = 10, 1.0  # at the engine's pace, to find the usual one; seconds between them
PATIENCE = 900.0  # seconds, for one piece
SEED = 1


class Undisturbed:
    """Runs pieces when and while the engine has its usual pace, and nobody else computes."""

    def __init__(self, engine: LLMEngine):
        self.engine = engine
        self.pace = median(self._look() for _ in range(LOOKS))

    def __call__[Found](self, name: str, piece: Callable[[], Found]) -> Found:
        """What the piece gives.  Raises TimeoutError if the machine does not come to rest."""
        end = time.perf_counter() + PATIENCE
        while time.perf_counter() < end:
            if abs(before := self._slowness()) > DRIFT:
                continue
            start, ticks = time.perf_counter(), machine.busy_elsewhere()
            found = piece()
            seconds = time.perf_counter() - start
            load, after = machine.cores_since(ticks, seconds), self._slowness()
            print(
                f"{name}: {seconds:.0f} s, others took {load:.2f} cores, {before:+.0%} and "
                f"{after:+.0%} slower than usual",
                flush=True,
            )
            if load <= FOREIGN and abs(after) <= DRIFT:
                return found
        raise TimeoutError(f"the machine was disturbed or had another speed for {PATIENCE:.0f} s")

    def _slowness(self) -> float:
        return self._look() / self.pace - 1

    def _look(self) -> float:
        time.sleep(PAUSE)
        return pace(self.engine)


@dataclass
class Load:
    """Parts of what arrives at one rate, and what the engine did with them: in one list a
    repetition of them all."""

    share: float  # of the rate that saturates
    rate: float
    parts: list[list[Known]]
    runs: list[list[Result]]
    steps: list[Measured] = field(default_factory=list)

    def compare(self, engine: LLMEngine, table: FromTable) -> Comparison:
        foretold = [simulate("fcfs", part, table, **options_of(engine)) for part in self.parts]
        return compare(self.share, self.rate, self.runs, self.steps, foretold, table)


def serve_once(engine: LLMEngine, workload: list[Known]) -> tuple[Result, list[Measured]]:
    engine.reset_prefix_cache()
    with frozen(), metered(engine) as meter:
        return serve(engine, workload), meter.steps


def run(args: argparse.Namespace) -> None:
    engine = build_engine(args.model, **OPTIONS)
    work, loads = Loads(engine, SEED), []
    work.mixed(3.0)  # memory is touched for the first time
    undisturbed = Undisturbed(engine)
    steps = Steps(
        designed=undisturbed("shapes", partial(watched, work, work.designed, args.seconds))
    )
    for turn in range(args.repeats * args.parts):
        repeat, part = divmod(turn, args.parts)
        mixed = undisturbed("calibration", partial(watched, work, work.mixed, args.seconds))
        steps.mixed.extend(mixed)
        loads = loads or loads_of(engine, steps, args)
        for load in loads:
            serving = partial(serve_once, engine, load.parts[part])
            result, measured = undisturbed(f"load {load.share:.0%}", serving)
            load.runs[repeat].append(result)
            load.steps += measured
    table = replace(table_of(engine, steps), pace=undisturbed.pace)
    print("\n".join(report_costs(table)), flush=True)
    comparisons = [load.compare(engine, table) for load in loads]
    print("\n".join(line for each in comparisons for line in report(each)), flush=True)
    save(args, table, comparisons)


def loads_of(engine: LLMEngine, steps: Steps, args: argparse.Namespace) -> list[Load]:
    capacity = saturation_rate(engine, table_of(engine, steps), "fcfs", SEED)
    loads = []
    for share in args.loads:
        rate = share * capacity
        count = max(FEWEST, round(rate * args.seconds))
        parts = [requests(engine, rate, count, SEED + part) for part in range(args.parts)]
        loads.append(Load(share, rate, parts, [[] for _ in range(args.repeats)]))
    return loads


def save(args: argparse.Namespace, table: FromTable, found: list[Comparison]) -> None:
    name = Path(args.out) / f"simulation-{table.of_model}"
    table.save(f"{name}-costs.json")
    said = {each: getattr(args, each) for each in ("seconds", "parts", "repeats")}
    told = {"machine": machine.describe(), "arguments": said, "options": OPTIONS}
    told["loads"] = [as_json(each) for each in found]
    Path(f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of a piece")
    parser.add_argument("--parts", type=int, default=4, help="of what each load serves")
    parser.add_argument("--repeats", type=int, default=2, help="of all parts")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
