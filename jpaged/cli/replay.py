"""`jpaged replay RUN`: does a recorded run again, and says whether it came out as it did."""

import argparse
from typing import Any

from jpaged.engine.progress import progress
from jpaged.engine.replaying import Replay
from jpaged.simulator.makers import policy_of


def run(args: argparse.Namespace) -> int:
    options: dict[str, Any] = {} if args.model is None else {"model": args.model}
    if args.policy is not None:
        options["policy"] = policy_of(args.policy)
    with Replay(args.run, **options) as replay:
        total = replay.num_steps if args.until is None else min(args.until, replay.num_steps)
        with progress(total, "Replaying", "step") as bar:
            outputs = replay.run(args.until, on_step=lambda step: bar.update())
        num_tokens = sum(len(s.token_ids) for each in outputs.values() for s in each.outputs)
        print(f"{total} steps, {len(outputs)} requests, {num_tokens} tokens: all as recorded")
        if args.until is not None:
            print(replay.engine.page_report())
    return 0
