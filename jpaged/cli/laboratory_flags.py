"""Flags of the laboratory: simulations, recorded runs, and what they are held against."""

import argparse

from jpaged.cli.listing import LISTS, HelpWithLists
from jpaged.cli.model_flags import MODEL_HELP
from jpaged.cli.options import add_engine_flags

MEASURES = (
    "ttft_p50,ttft_p99,ttft_max,tpot_p99,latency_mean,tokens_per_second,hit_rate,recompute_tax"
)
COST_MODEL = "roofline:model=llama-8b,gpu=H200"


def compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policies",
        required=True,
        nargs="+",
        metavar="POLICY",
        help="fcfs,sarathi:chunk=256,mine.py:MyPolicy; the first is the base",
    )
    _add_setting(parser)
    parser.add_argument(
        "--routers",
        nargs="+",
        default=[],
        metavar="ROUTER",
        help="round_robin,mine.py:MyRouter: each policy under each of them (default: round_robin); "
        "--option num_replicas=4 says of how many replicas",
    )
    parser.add_argument("--seeds", type=int, default=5, help="of each workload (default 5)")
    parser.add_argument(
        "--measures",
        default=MEASURES,
        metavar="MEASURE,…",
        help=f"columns of the table (default {MEASURES})",
    )


def search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy",
        required=True,
        help="sarathi, mine.py:MyPolicy, or srpt:early=0.5 to search among its other parameters",
    )
    parser.add_argument(
        "--space",
        required=True,
        nargs="+",
        metavar="PARAMETER",
        help="name=low:high, name=low:high:log or name=this,that",
    )
    _add_setting(parser)
    parser.add_argument("--router", help="of num_replicas, see --option (default: round_robin)")
    parser.add_argument(
        "--measure", default="latency_mean", help="what should be best (default latency_mean)"
    )
    parser.add_argument(
        "--constraint", nargs="+", default=[], help="'tpot_p99<0.05', on every workload"
    )
    parser.add_argument("--trials", type=int, default=40, help="parameters to try (default 40)")
    parser.add_argument("--seeds", type=int, default=3, help="of each trial (default 3)")
    parser.add_argument(
        "--held-out-seeds", type=int, default=5, help="for the best, afterwards (default 5)"
    )
    parser.add_argument(
        "--held-out", nargs="+", metavar="WORKLOAD", help="for the best, in place of --workloads"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another one searches otherwise (default 0)"
    )


def replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="what `engine.record(…)` wrote")
    parser.add_argument("--until", type=int, help="stop before this step, and show the pages")
    parser.add_argument("--model", help="where the checkpoint lies now")
    parser.add_argument("--policy", help="the run's, if it was none of ours: mine.py:MyPolicy")


def calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--out", required=True, help="where the costs go, as JSON")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring (default 60)")
    parser.add_argument("--calibration-seed", type=int, default=0, metavar="SEED")
    add_engine_flags(parser)


def validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument(
        "--costs",
        help="what `jpaged calibrate` wrote (default: it is measured here, in turns with what is "
        "served, because a machine has several speeds)",
    )
    parser.add_argument(
        "--turn",
        type=float,
        help="without --costs: seconds of arrivals at each load in turn (default 5)",
    )
    parser.add_argument("--costs-out", help="without --costs: where those found go, as JSON")
    parser.add_argument(
        "--loads",
        type=float,
        nargs="+",
        help="shares of the saturating rate (default 0.5 0.85 1.2)",
    )
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of arrivals at each load (default 30)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=2,
        help="runs of the engine, which tell the noise (default 2)",
    )
    parser.add_argument("--workload-seed", type=int, default=1, metavar="SEED")
    parser.add_argument("--out", help="where the comparison goes, as JSON")
    add_engine_flags(parser)


def _add_setting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workloads",
        required=True,
        nargs="+",
        metavar="WORKLOAD",
        help="poisson:rate=4,num_requests=500, or a trace",
    )
    parser.add_argument(
        "--cost-model",
        default=COST_MODEL,
        help=f"or constant:step=0.02, or costs.json (default {COST_MODEL})",
    )
    parser.add_argument(
        "--option",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="of the engines: max_model_len=4096 num_replicas=8 (default: an engine's own, and "
        "max_model_len=2048)",
    )
    parser.add_argument("--out", metavar="PAGE.html", help="where the page goes (default: nowhere)")
    parser.formatter_class, parser.epilog = HelpWithLists, LISTS
