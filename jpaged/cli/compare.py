"""`jpaged compare`: several policies on the same requests, in virtual time."""

import argparse
from pathlib import Path

from jpaged.analysis.compare_page import compare_page
from jpaged.cli.laboratory import Setting, distinct
from jpaged.engine.progress import progress
from jpaged.simulator.compare import compare
from jpaged.simulator.measures import check_measures


def run(args: argparse.Namespace) -> int:
    policies = distinct("policy", args.policies.split(","))
    measures = distinct("measure", args.measures.split(","))
    check_measures(measures)
    setting = Setting.of(args)
    workloads = setting.workloads(args.workloads)
    total = len(policies) * len(workloads) * args.seeds
    with progress(total, "Simulating", "run") as bar:
        found = compare(
            policies,
            workloads,
            setting.cost_model,
            args.seeds,
            lambda *_: bar.update(),
            **setting.options,
        )
    print(found.as_table(measures))
    if args.out is not None:
        Path(args.out).write_text(compare_page(found, measures, args.cost_model), encoding="utf-8")
        print(f"\nwritten to {args.out}")
    return 0
