"""Reads the command line and calls the command."""

import importlib
import logging
import os
import sys

from jpaged.cli.parser import build_parser, module_of

SERVE = (
    *("fastapi", "starlette", "pydantic", "pydantic_core", "uvicorn", "uvloop", "httptools"),
    *("msgspec", "prometheus_client", "yaml"),
)
# what commands need that may be missing, and which extra brings it
EXTRAS = {
    **dict.fromkeys(("pandas", "optuna"), "lab"),
    **dict.fromkeys(SERVE, "serve"),
    "opentelemetry": "otel",
}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for an error (told on stderr in one line), 130 for Ctrl-C."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for words that fit
        importlib.import_module("jpaged.cli.completion").answer(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no warning about forks
    try:
        return importlib.import_module(module_of(args.command)).run(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # `jpaged generate … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None or args.verbose:
            raise
        print(f"jpaged: {error}; pip install 'jpaged[{extra}]' brings it", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError) as error:  # ours are ValueErrors that say what to do
        if args.verbose:
            raise
        print(f"jpaged: {error}", file=sys.stderr)
        return 1
