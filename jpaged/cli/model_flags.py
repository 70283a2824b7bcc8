"""Flags of the commands that load a model, or look at one."""

import argparse

from jpaged.cli.options import add_engine_flags, add_sampling_flags
from jpaged.config import DTYPES

MODEL_HELP = 'a folder, a name on the Hugging Face hub, or "demo" for the bundled model'


def generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    text = "without one, standard input is the prompt"
    parser.add_argument("prompt", nargs="*", default=[], help=text)
    add_sampling_flags(parser)
    add_engine_flags(parser)


def chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--system", help="a system message to begin with")
    add_sampling_flags(parser, without=("n",))
    add_engine_flags(parser)


def info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    add_engine_flags(parser)


def doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="which kernels it would get; " + MODEL_HELP)
    add_engine_flags(parser)


def convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("folder", help="where the converted model goes")
    parser.add_argument("--dtype", choices=DTYPES, default="auto")
