"""Figures over page sizes, on plain XLA and on the C++ kernels.

The C++ kernels serve pages of a multiple of 16 tokens, plain XLA any: there all sizes are on one
footing.  A process has the kernels or has not, so each kind is measured in one of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
FEW = (1, 4, 16, 64)  # for a quick look
SWITCH = {"XLA": "off", "C++": "on"}


def both_ways(script: str, args: argparse.Namespace) -> dict:
    """What the script prints for a row of figures, its title first, under each kind of kernels."""
    found = {}
    for kernels, switch in SWITCH.items():
        sizes = [s for s in (FEW if args.quick else SIZES) if kernels == "XLA" or s % 16 == 0]
        words = ["--sizes", ",".join(map(str, sizes)), "--rounds", str(args.rounds)]
        words += ["--sequences", str(args.sequences), "--rows", str(args.rows)]
        done = subprocess.run(
            [sys.executable, script, args.model, *words],
            env={**os.environ, "JPAGED_CPU_KERNELS": switch},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows = json.loads(done.stdout)
        found |= {f"{title}, {kernels}": row for title, row in rows.items()}
    return found


def by_page_size(
    title: str, found: dict[str, dict[str, dict]], show: Callable[[dict], str]
) -> tuple[list[str], list[list[str]]]:
    """A table's head and rows, with a column for each page size."""
    sizes = list(next(iter(found.values())))
    rows = [
        [name, *(show(each[size]) if size in each else "" for size in sizes)]
        for name, each in found.items()
    ]
    return [title, *sizes], rows


def parse_sizes(about: str | None) -> argparse.Namespace:
    """The words that `both_ways` gives to a script."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("model", help="a checkpoint folder, or demo")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=240)
    parser.add_argument("--rows", type=int, default=10, help="see against_orca.py")
    args = parser.parse_args()
    args.sizes = [int(size) for size in args.sizes.split(",")]
    return args
