"""Every fault against a real `jpaged serve`, and what came of it, as a table.

    python benchmarks/faults                          # all of them, four minutes
    python benchmarks/faults --only 3,5,20c           # some; the others' lines stay
    python benchmarks/faults --soak 600 --piece 80    # traffic, and engines that die
    python benchmarks/faults --soak 80 --add          # more of it, added to what was soaked before

Exit code 1 if something was not as it should be.  The device is pretended where nothing else is
said; all else is real: processes, sockets, signals, limits.
"""

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import client_faults  # noqa: F401  each enters its rows
import engine_faults  # noqa: F401
import inner_faults  # noqa: F401
import scarce_faults  # noqa: F401
import signals  # noqa: F401
from row import ROWS, Row
from table import order, written

sys.path.append(str(Path(__file__).parent.parent))
import machine  # noqa: E402
from soak import soak  # noqa: E402

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "faults.json"
TABLE = HERE.parent.parent / "deploy" / "FAULTS.md"


def attempt(row: Row) -> dict:
    """What a row came to.  One that cannot be run to its end is a problem, too."""
    began = time.monotonic()
    try:
        row.run()
    except (AssertionError, RuntimeError, OSError, ValueError) as error:
        row.problems.append(f"{type(error).__name__}: {error}")
    found = asdict(row)
    found.pop("do")
    took = time.monotonic() - began
    print(f"{row.number:<4} {row.fault}: {row.others} ({took:.0f} s)", flush=True)
    print(*(f"     {each}\n" for each in row.problems), sep="", end="", flush=True)
    return found


def keep(found: dict, results: Path, table: Path) -> None:
    found["rows"] = {number: found["rows"][number] for number in order(found["rows"])}
    results.write_text(json.dumps(found, indent=1) + "\n")
    table.write_text(written(found))


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults, and what comes of them.")
    parser.add_argument("--only", help="numbers of rows, with commas")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="instead of the rows")
    parser.add_argument("--piece", type=float, default=80.0, help="seconds that a server soaks")
    parser.add_argument("--add", action="store_true", help="to what was soaked before")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers under test are ended, too
    found = json.loads(args.results.read_text()) if args.results.exists() else {"rows": {}}
    found["machine"] = machine.describe()
    if args.soak:
        before = found["soak"]["pieces"] if args.add and "soak" in found else []
        found["soak"] = soak(args.soak, args.piece, before)
        problems = found["soak"]["problems"]
    else:
        wanted, problems = set(args.only.split(",")) if args.only else None, []
        for row in ROWS:
            if wanted is None or row.number in wanted:
                found["rows"][row.number] = attempt(row)
                problems += row.problems
                keep(found, args.results, args.table)
    keep(found, args.results, args.table)
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
