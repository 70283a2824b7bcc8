"""`jpaged compare`: several policies on the same requests, in virtual time."""

import argparse
from pathlib import Path

from jpaged.analysis.compare_page import compare_page
from jpaged.engine.progress import progress
from jpaged.errors import ConfigError
from jpaged.simulator.compare import MEASURES, compare
from jpaged.simulator.specs import cost_model_of, option_of, workload_of


def run(args: argparse.Namespace) -> int:
    policies, measures = args.policies.split(","), args.measures.split(",")
    workloads = {each: workload_of(each) for each in args.workloads}
    cost_model = cost_model_of(args.cost_model)
    unknown = [each for each in measures if each not in MEASURES]
    if unknown:
        raise ConfigError(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    options = dict(option_of(each) for each in args.option)
    total = len(policies) * len(workloads) * args.seeds
    with progress(total, "Simulating", "run") as bar:
        found = compare(
            policies, workloads, cost_model, args.seeds, lambda *_: bar.update(), **options
        )
    print(found.as_table(measures))
    if args.out is not None:
        Path(args.out).write_text(compare_page(found, measures, args.cost_model))
        print(f"\nwritten to {args.out}")
    return 0
