"""`jpaged calibrate MODEL`: measures an engine, and writes what its steps cost."""

import argparse

from jpaged.calibration.calibrate import build_engine, calibrate
from jpaged.cli.laboratory import check_out
from jpaged.cli.options import engine_options
from jpaged.simulator.table import FromTable

MOST_ERROR, MOST_BIAS = 0.1, 0.05  # of steps that were held out


def run(args: argparse.Namespace) -> int:
    check_out(args.out)
    with build_engine(args.model, **engine_options(args)) as engine:
        table = calibrate(engine, args.seconds, args.calibration_seed)
    table.save(args.out)
    print("\n".join(report(table)))
    print(verdict(table))
    print(f"{args.out} holds the costs; see `jpaged validate` for how true they are")
    return 0


def verdict(table: FromTable) -> str:
    """Whether these costs are worth simulating with."""
    if table.error <= MOST_ERROR and abs(table.bias) <= MOST_BIAS:
        return f"=> good: median error within {MOST_ERROR:.0%}, bias within {MOST_BIAS:.0%}"
    return (
        f"=> POOR: median error {table.error:.1%} (at most {MOST_ERROR:.0%}), bias "
        f"{table.bias:+.1%} (at most {MOST_BIAS:.0%}): measure for longer (--seconds), with "
        "nothing else running"
    )


def report(table: FromTable) -> list[str]:
    """A line a bucket: costs, and errors on steps that were held out."""
    head = f"{'step shape':<20}{'base':>10}{'a token':>10}{'held out':>10}{'median':>8}{'p90':>8}"
    lines = [f"{table.of_model} on {table.machine}", head + f"{'bias':>8}"]
    for bucket, row in sorted(table.rows.items()):
        costs = f"{row.base * 1e3:>7.3f} ms{row.token * 1e6:>7.2f} us{row.num_steps:>10}"
        errors = f"{row.error:>8.1%}{row.error_p90:>8.1%}{row.bias:>+8.1%}" if row.num_steps else ""
        lines.append(f"{bucket!s:<20}{costs}{errors}")
    return [
        *lines,
        f"{'all':<20}{'':>20}{sum(row.num_steps for row in table.rows.values()):>10}"
        f"{table.error:>8.1%}{table.error_p90:>8.1%}{table.bias:>+8.1%}",
        *_common(table),
    ]


def _common(table: FromTable) -> list[str]:
    """What all buckets have in common: of the device, and of the host before and after a step."""
    return [
        f"the device: a token read {table.read * 1e9:.1f} ns, a pair {table.pair * 1e9:.2f} ns, a "
        f"sequence {table.sequence * 1e6:.2f} us, a page moved {table.moved * 1e6:.1f} us; after "
        f"a rest {table.rest * 1e6:.0f} us, after prompts {table.prompts * 1e6:.2f} a token",
        f"the host: {table.host_seconds * 1e6:.0f} us, a prompt {table.host_prompt * 1e6:.0f}, a "
        f"token {table.host_token * 1e6:.2f}, a sequence {table.host_sequence * 1e6:.2f}; after a "
        f"rest {table.host_rest * 1e6:.0f}, after prompts {table.host_prompts * 1e6:.2f} a token",
        f"its answer: {table.enter_seconds * 1e6:.0f} us, a prompt {table.enter_prompt * 1e6:.0f}, "
        f"a sequence {table.enter_sequence * 1e6:.2f}, an end {table.enter_end * 1e6:.0f}",
        f"a request: {table.admit_seconds * 1e6:.0f} us, a token {table.admit_token * 1e6:.2f}",
    ]
