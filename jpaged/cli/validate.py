"""`jpaged validate MODEL`: an engine against its simulation."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jpaged.calibration.accuracy import AIMS, Comparison
from jpaged.calibration.calibrate import build_engine, describe_machine
from jpaged.calibration.turns import TURN, validate_in_turns
from jpaged.calibration.validate import LOADS, check_amounts, validate
from jpaged.cli.laboratory import check_out
from jpaged.cli.options import engine_options
from jpaged.errors import ConfigError
from jpaged.simulator.table import FromTable

NOTABLE = 0.05  # of an engine's pace


def run(args: argparse.Namespace) -> int:
    turn = TURN if args.turn is None else args.turn
    _check(args, turn)
    table = FromTable.load(args.costs) if args.costs else None
    options = engine_options(args)
    policy = options.pop("policy", "fcfs")
    with build_engine(args.model, **options) as engine:
        said: dict[str, Any] = {
            "policy": policy,
            "loads": args.loads or LOADS,
            "seconds": args.seconds,
            "repeats": args.repeats,
            "seed": args.workload_seed,
        }
        if table is None:
            table, comparisons = validate_in_turns(engine, turn=turn, **said)
            if args.costs_out:
                table.save(args.costs_out)
        else:
            comparisons = validate(engine, table, on_run=_tell, **said)
    print("\n".join(line for each in comparisons for line in report(each)))
    if args.costs and any(each.beyond for each in comparisons):
        print("without --costs they are measured in turns with what is served, which is truer")
    if args.out:
        found: dict[str, Any] = {
            "model": table.of_model,
            "machine": describe_machine(),
            "policy": getattr(args, "policy", "fcfs"),
        }
        found["loads"] = [as_json(each) for each in comparisons]
        Path(args.out).write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _check(args: argparse.Namespace, turn: float) -> None:
    """Before minutes of measuring, not after."""
    for name in ("costs_out", "turn"):
        if args.costs and getattr(args, name) is not None:
            flag = name.replace("_", "-")
            raise ConfigError(
                f"--{flag} is for costs that are measured here; leave out one of them"
            )
    check_amounts(args.loads or LOADS, args.seconds, args.repeats, turn)
    check_out(args.out)
    check_out(args.costs_out, "--costs-out")


def report(comparison: Comparison) -> list[str]:
    """A line a figure: the engine, the simulation, and how far they are from each other."""
    saturated = ", SATURATED: more arrive than leave" if comparison.is_saturated else ""
    changed = abs(comparison.slowness - 1) > NOTABLE
    slower = f", the engine {comparison.slowness:.2f}x as slow as in calibration"
    lines = [
        f"load {comparison.load:.0%}, {comparison.rate:.1f} requests/s, "
        f"{comparison.num_requests} requests{saturated}; steps: median error "
        f"{comparison.step_error:.1%}, bias {comparison.step_bias:+.1%}, "
        f"of the host {comparison.host_bias:+.1%}"
        f"{slower if changed else ''}",
        f"{'':<14}{'engine':>12}{'simulated':>12}{'error':>9}{'noise':>9}",
    ]
    for name in comparison.simulated:
        seconds = (
            f"{comparison.mean(name) * 1e3:>9.2f} ms{comparison.simulated[name] * 1e3:>9.2f} ms"
        )
        noise = f"{comparison.floor(name):>9.1%}" if len(comparison.measured) > 1 else f"{'?':>9}"
        lines.append(f"{name:<14}{seconds}{comparison.error(name):>+9.1%}{noise}")
    return [*lines, verdict(comparison)]


def verdict(comparison: Comparison) -> str:
    """Whether the simulation can be believed at this load, and what to do if not."""
    aims = " and ".join(f"{name} within {aim:.0%}" for name, aim in AIMS.items())
    if comparison.is_saturated:
        return "=> saturated: the queue multiplies any error of the steps; nothing is aimed at here"
    if not comparison.beyond:
        return f"=> good: {aims}"
    missed = ", ".join(f"{name} {comparison.error(name):+.1%}" for name in comparison.beyond)
    return f"=> POOR, beyond {aims}: {missed}; {_way_out(comparison)}"


def _way_out(comparison: Comparison) -> str:
    if abs(comparison.slowness - 1) > NOTABLE:
        return "the machine has another speed than in calibration: calibrate again"
    if len(comparison.measured) == 1:
        return "`--repeats 3` tells how far the engine is from itself"
    if all(comparison.floor(name) > abs(comparison.error(name)) / 2 for name in comparison.beyond):
        return "the engine is about as far from itself: serve for longer (--seconds)"
    return "measure for longer (--seconds), with nothing else running"


def as_json(comparison: Comparison) -> dict:
    errors = {name: comparison.error(name) for name in comparison.simulated}
    floors = {name: comparison.floor(name) for name in comparison.simulated}
    return {**asdict(comparison), "errors": errors, "noise": floors}


def _tell(load: float, run: int) -> None:
    print(f"serving at {load:.0%} of what saturates, run {run + 1}", file=sys.stderr)
