"""How true the simulation is: an engine is calibrated and validated, in turns of a few seconds.

    python benchmarks/simulation.py MODEL --out DIR

What `jpaged calibrate` and `jpaged validate` do, in one process and on one engine: some seconds of
calibration, then some of each load, and so on.  A shared machine has several speeds, a third apart,
and costs of one do not foretell another; in short turns all see all of them.  What is served has
other seeds, and other laws of length, than what is measured.  Two repetitions of the same requests
tell how far an engine is from itself.
"""

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import machine
from tqdm import tqdm

from jpaged.calibration.accuracy import Comparison
from jpaged.calibration.calibrate import (
    Steps,
    build_engine,
    options_of,
    table_of,
    watched,
)
from jpaged.calibration.loads import Loads, capacity
from jpaged.calibration.meter import Measured
from jpaged.calibration.pace import pace
from jpaged.calibration.validate import LOADS, PROBED, compare, requests, run_of
from jpaged.calibration.workload import Known
from jpaged.cli.calibrate import report as report_costs
from jpaged.cli.validate import as_json, report
from jpaged.engine.llm_engine import LLMEngine
from jpaged.simulator.result import Result
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

OPTIONS = {"max_model_len": 512, "num_pages": 16384}
WARM = 3.0  # seconds until memory is touched and caches are filled
DESIGNED = 10.0  # seconds of every shape, one after another
CALIBRATED = 2  # times as long as each load is served
SEED = 1


@dataclass
class Load:
    """Parts of what arrives at one rate, and what the engine did with them: in one list a
    repetition of them all."""

    share: float  # of the rate that saturates
    rate: float
    parts: list[list[Known]]
    runs: list[list[Result]]
    steps: list[Measured] = field(default_factory=list)

    def serve(self, engine: LLMEngine, repeat: int, part: int) -> None:
        result, measured = run_of(engine, self.parts[part])
        self.runs[repeat].append(result)
        self.steps += measured

    def compare(self, engine: LLMEngine, table: FromTable) -> Comparison:
        foretold = [simulate("fcfs", part, table, **options_of(engine)) for part in self.parts]
        return compare(self.share, self.rate, self.runs, self.steps, foretold, table)


def run(args: argparse.Namespace) -> None:
    engine = build_engine(args.model, **OPTIONS)
    work = Loads(engine, SEED)
    work.mixed(WARM)
    usual, ticks, began = pace(engine), machine.busy_elsewhere(), time.perf_counter()
    steps = Steps(designed=watched(work, work.designed, DESIGNED).steps)
    loads = loads_of(engine, args)
    for turn in tqdm(range(args.repeats * args.parts), unit="turn"):
        engine.reset_prefix_cache()
        steps.add_mixed(watched(work, work.mixed, CALIBRATED * args.seconds))
        for load in loads:
            load.serve(engine, *divmod(turn, args.parts))
    others = machine.cores_since(ticks, time.perf_counter() - began)
    table = replace(table_of(engine, steps), pace=usual)
    found = [load.compare(engine, table) for load in loads]
    print("\n".join(report_costs(table)), f"others took {others:.2f} cores", sep="\n")
    print("\n".join(line for each in found for line in report(each)), flush=True)
    save(args, table, found, others)


def loads_of(engine: LLMEngine, args: argparse.Namespace) -> list[Load]:
    """Shares of what the engine can serve, measured."""
    crowd = requests(engine, float("inf"), PROBED * engine.sizes.max_num_seqs, SEED - 1)
    most, loads = capacity(engine, crowd), []
    for share in args.loads:
        rate = share * most
        count = max(1, round(rate * args.seconds))
        parts = [requests(engine, rate, count, SEED + part) for part in range(args.parts)]
        loads.append(Load(share, rate, parts, [[] for _ in range(args.repeats)]))
    return loads


def save(
    args: argparse.Namespace, table: FromTable, found: list[Comparison], others: float
) -> None:
    name = Path(args.out) / f"simulation-{table.of_model}"
    table.save(f"{name}-costs.json")
    said = {each: getattr(args, each) for each in ("seconds", "parts", "repeats")}
    told = {"machine": machine.describe(), "arguments": said, "options": OPTIONS}
    told |= {"foreign": round(others, 2), "loads": [as_json(each) for each in found]}
    Path(f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn of each")
    parser.add_argument("--parts", type=int, default=8, help="of what each load serves")
    parser.add_argument("--repeats", type=int, default=2, help="of all parts")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
