"""`jpaged compare`: several policies on the same requests, in virtual time."""

import argparse
from pathlib import Path

from jpaged.analysis.compare_page import compare_page
from jpaged.cli.laboratory import Setting, check_clients, distinct
from jpaged.engine.progress import progress
from jpaged.simulator.compare import compare
from jpaged.simulator.makers import named, policy_of
from jpaged.simulator.measures import check_measures


def run(args: argparse.Namespace) -> int:
    policies = {name: policy_of(name) for name in distinct("policy", _all(args.policies))}
    measures = distinct("measure", args.measures.split(","))
    check_measures(measures)
    setting = Setting.of(args)
    workloads, routers = setting.workloads(args.workloads), setting.routers(_all(args.routers))
    check_clients(measures, workloads)
    total = len(policies) * max(1, len(routers)) * len(workloads) * args.seeds
    with progress(total, "Simulating", "run") as bar:
        found = compare(
            policies,
            workloads,
            setting.cost_model,
            args.seeds,
            lambda *_: bar.update(),
            routers=routers,
            **setting.options,
        )
    print(found.as_table(measures))
    if args.out is not None:
        Path(args.out).write_text(compare_page(found, measures, args.cost_model), encoding="utf-8")
        print(f"\nwritten to {args.out}")
    return 0


def _all(texts: list[str]) -> list[str]:
    """With commas or spaces between."""
    return [each for text in texts for each in named(text)]
