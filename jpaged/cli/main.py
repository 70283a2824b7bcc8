"""Reads the command line and calls the command.

Commands are imported when they are called: `jpaged --help` should not wait for JAX.
"""

import argparse
import importlib
import logging
import os
import sys

from jpaged import __version__
from jpaged.cli.options import add_engine_flags, add_sampling_flags
from jpaged.cli.server_options import add_serve_flags
from jpaged.config import DTYPES

MEASURES = "ttft_p50,ttft_p99,tpot_p99,latency_mean,tokens_per_second,hit_rate,recompute_tax"
MODEL_HELP = 'a folder, a name on the Hugging Face hub, or "demo" for the bundled model'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jpaged", description="Paged LLM serving in JAX.")
    parser.add_argument("--version", action="version", version=f"jpaged {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, on stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    generate = commands.add_parser("generate", help="complete one prompt or several")
    generate.add_argument("model", help=MODEL_HELP)
    generate.add_argument("prompt", nargs="*", help="without one, standard input is the prompt")
    add_sampling_flags(generate)
    add_engine_flags(generate)

    chat = commands.add_parser("chat", help="talk to a model")
    chat.add_argument("model", help=MODEL_HELP)
    chat.add_argument("--system", help="a system message to begin with")
    add_sampling_flags(chat, without=("n",))
    add_engine_flags(chat)

    serve = commands.add_parser("serve", help="an HTTP server, for OpenAI's and vLLM's clients")
    add_serve_flags(serve)

    info = commands.add_parser("info", help="what a model is, and what it needs")
    info.add_argument("model", help=MODEL_HELP)
    add_engine_flags(info)

    doctor = commands.add_parser("doctor", help="what this machine has, and which kernels serve")
    doctor.add_argument("model", nargs="?", help="which kernels it would get; " + MODEL_HELP)
    add_engine_flags(doctor)

    compare = commands.add_parser("compare", help="policies on the same requests, simulated")
    compare.add_argument(
        "--policies", required=True, help="names, with commas; the first is the base"
    )
    compare.add_argument(
        "--workloads", required=True, nargs="+", help="poisson:rate=4,num_requests=500, or a trace"
    )
    compare.add_argument(
        "--cost-model", default="roofline:model=llama-8b,gpu=H200", help="or constant:…, costs.json"
    )
    compare.add_argument("--seeds", type=int, default=5)
    compare.add_argument("--measures", default=MEASURES, help="of a simulation's summary")
    compare.add_argument("--option", nargs="*", default=[], help="of the engines, name=value")
    compare.add_argument("--out", help="a page of HTML")

    replay = commands.add_parser("replay", help="do a recorded run again, step by step")
    replay.add_argument("run", help="what `engine.record(…)` wrote")
    replay.add_argument("--until", type=int, help="stop before this step, and show the pages")
    replay.add_argument("--model", help="where the checkpoint lies now")

    convert = commands.add_parser("convert", help="convert a checkpoint once, to load it faster")
    convert.add_argument("model", help=MODEL_HELP)
    convert.add_argument("folder", help="where the converted model goes")
    convert.add_argument("--dtype", choices=DTYPES, default="auto")

    calibrate = commands.add_parser("calibrate", help="measure what an engine's steps cost")
    calibrate.add_argument("model", help=MODEL_HELP)
    calibrate.add_argument("--out", required=True, help="where the costs go, as JSON")
    calibrate.add_argument("--seconds", type=float, default=60.0, help="of measuring (default 60)")
    calibrate.add_argument("--calibration-seed", type=int, default=0, metavar="SEED")
    add_engine_flags(calibrate)

    validate = commands.add_parser("validate", help="hold a simulation against its engine")
    validate.add_argument("model", help=MODEL_HELP)
    validate.add_argument("--costs", required=True, help="what `jpaged calibrate` wrote")
    validate.add_argument(
        "--loads",
        type=float,
        nargs="+",
        help="shares of the saturating rate (default 0.5 0.85 1.2)",
    )
    validate.add_argument("--seconds", type=float, default=15.0, help="of arrivals (default 15)")
    validate.add_argument(
        "--repeats",
        type=int,
        default=1,
        help="runs of the engine, which tell the noise (default 1)",
    )
    validate.add_argument("--workload-seed", type=int, default=1, metavar="SEED")
    validate.add_argument("--out", help="where the comparison goes, as JSON")
    add_engine_flags(validate)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for an error (told on stderr in one line), 130 for Ctrl-C."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no warning about forks
    try:
        return importlib.import_module(f"jpaged.cli.{args.command}").run(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # `jpaged generate … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, RuntimeError) as error:  # ours are ValueErrors that say what to do
        if args.verbose:
            raise
        print(f"jpaged: {error}", file=sys.stderr)
        return 1
