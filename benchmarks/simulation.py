"""How true the simulation is: an engine is calibrated and validated, in turns of a few seconds.

    python benchmarks/simulation.py MODEL --out DIR

What `jpaged validate MODEL` does, and keeps: the costs, and how far the simulation was from the
engine; and how busy the machine was with other things meanwhile.
"""

import argparse
import json
import time
from pathlib import Path

import machine

from jpaged.calibration.calibrate import build_engine
from jpaged.calibration.turns import validate_in_turns
from jpaged.calibration.validate import LOADS
from jpaged.cli.calibrate import report as report_costs
from jpaged.cli.validate import as_json, report

OPTIONS = {"max_model_len": 512, "num_pages": 16384}


def run(args: argparse.Namespace) -> None:
    said = {each: getattr(args, each) for each in ("seconds", "turn", "repeats", "loads")}
    engine = build_engine(args.model, **OPTIONS)
    ticks, began = machine.busy_elsewhere(), time.perf_counter()
    table, found = validate_in_turns(engine, **said)
    others = machine.cores_since(ticks, time.perf_counter() - began)
    print("\n".join(report_costs(table)), f"others took {others:.2f} cores", sep="\n")
    print("\n".join(line for each in found for line in report(each)), flush=True)
    name = Path(args.out) / f"simulation-{table.of_model}"
    table.save(f"{name}-costs.json")
    told = {"machine": machine.describe(), "arguments": said, "options": OPTIONS}
    told |= {"foreign": round(others, 2), "loads": [as_json(each) for each in found]}
    Path(f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--seconds", type=float, default=40.0, help="of arrivals at each load")
    parser.add_argument("--turn", type=float, default=5.0, help="seconds of each in turn")
    parser.add_argument("--repeats", type=int, default=2, help="of the same requests")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
