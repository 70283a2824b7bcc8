"""Flags of the commands about servers that run, and about models that lie here."""

import argparse

from jpaged.cli.model_flags import MODEL_HELP
from jpaged.cli.options import add_sampling_flags


def run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    text = "answer this and end; standard input is one too"
    parser.add_argument("prompt", nargs="*", default=[], help=text)
    parser.add_argument("--system", help="a system message to begin with")
    parser.add_argument("--keep", action="store_true", help="let a server that is started stay")
    parser.add_argument("--url", help="of a server that has the model, here or elsewhere")
    add_sampling_flags(parser, without=("n", "best_of"))
    parser.epilog = (
        "A server that is started takes its options from JPAGED_SERVE_…, as `jpaged serve` does."
    )


def ps(parser: argparse.ArgumentParser) -> None:
    """None yet."""


def stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", metavar="NAME|URL|all", help="a model's name, or a URL of `ps`")
    parser.add_argument("--now", action="store_true", help="cut off what still runs")


def list_models(parser: argparse.ArgumentParser) -> None:
    """None yet."""


def pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a name on the Hugging Face hub")
    parser.add_argument("--revision", help="branch, tag or commit")
    parser.add_argument("--force", action="store_true", help="also what jpaged does not serve")


def rm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="+", help="a name that `list` shows")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.epilog = (
        'bash, zsh: eval "$(jpaged completion bash)" in ~/.bashrc or ~/.zshrc; '
        "fish: jpaged completion fish > ~/.config/fish/completions/jpaged.fish"
    )
