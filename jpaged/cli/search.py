"""`jpaged search`: the parameters of a policy that serve best, in virtual time."""

import argparse
from pathlib import Path

from jpaged.analysis.search_page import USUAL, hints, search_page, verdict
from jpaged.cli.laboratory import Setting
from jpaged.engine.progress import progress
from jpaged.simulator.makers import policy_maker
from jpaged.simulator.search import search
from jpaged.simulator.specs import space_of
from jpaged.simulator.trials import Search


def run(args: argparse.Namespace) -> int:
    make_policy, space, setting = policy_maker(args.policy), space_of(args.space), Setting.of(args)
    workloads = setting.workloads(args.workloads)
    routers = setting.routers([args.router] if args.router else [])
    held_out = None if args.held_out is None else setting.workloads(args.held_out)
    num_runs = 2 * args.held_out_seeds * len(held_out or workloads)
    with progress(args.trials + 1 + num_runs, "Searching", "step") as bar:
        found = search(
            make_policy,
            space,
            workloads,
            setting.cost_model,
            args.measure,
            args.constraint,
            args.trials,
            args.seeds,
            args.seed,
            num_held_out=args.held_out_seeds,
            held_out=held_out,
            on_trial=lambda _: bar.update(),
            on_run=lambda *_: bar.update(),
            name=args.policy,
            router=next(iter(routers.values()), None),
            **setting.options,
        )
    print("\n".join(report(found)))
    if args.out is not None:
        Path(args.out).write_text(search_page(found, args.cost_model), encoding="utf-8")
        print(f"\nwritten to {args.out}")
    return 0


def report(found: Search) -> list[str]:
    """The parameters, what they are worth, and at what price."""
    default = found.trials[0].parameters
    lines = [
        f"{found.policy}: {name}={_short(value)}, by default {_short(default[name])}"
        for name, value in found.best_parameters.items()
    ]
    states = [trial.state for trial in found.trials]
    told = {"pruned": "given up early", "over": "over a constraint", "failed": "without a value"}
    counts = [f"{states.count(each)} {text}" for each, text in told.items() if each in states]
    lines.append(", ".join([f"{len(found.trials) - 1} trials", *counts]))
    measures = tuple(dict.fromkeys((*found.measures, *USUAL)))
    return [*lines, verdict(found), *hints(found), "", found.held_out.as_table(measures)]


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
