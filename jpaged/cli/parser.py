"""The commands of `jpaged`, and what each may be told.

A row a command; its flags are made by a function in a file that imports little.  A command's own
module, `jpaged.cli.<its name>`, is imported when it is called: neither `jpaged --help` nor a shell
that completes a word should wait for JAX.
"""

import argparse
from collections.abc import Callable, Sequence

from jpaged import __version__
from jpaged.cli import client_flags, laboratory_flags, model_flags
from jpaged.cli.bench_flags import bench
from jpaged.cli.server_options import add_serve_flags
from jpaged.cli.vllm_flags import answer_to

COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "generate": ("complete one prompt or several", model_flags.generate),
    "chat": ("talk to a model", model_flags.chat),
    "serve": ("an HTTP server, for OpenAI's and vLLM's clients", add_serve_flags),
    "run": ("talk to a model on a server, which is started where none runs", client_flags.run),
    "ps": ("the servers that run here", client_flags.ps),
    "stop": ("end a server when it has finished what it began", client_flags.stop),
    "bench": ("load a server, and measure how it bears it", bench),
    "list": ("the models on this machine", client_flags.list_models),
    "pull": ("bring a model from the Hugging Face hub", client_flags.pull),
    "rm": ("remove models from the Hugging Face cache", client_flags.rm),
    "info": ("what a model is, and what it needs", model_flags.info),
    "show": ("the same as info", model_flags.info),
    "doctor": ("what this machine has, and which kernels serve", model_flags.doctor),
    "convert": ("convert a checkpoint once, to load it faster", model_flags.convert),
    "compare": ("policies on the same requests, simulated", laboratory_flags.compare),
    "search": ("for a policy's best parameters, simulated", laboratory_flags.search),
    "replay": ("do a recorded run again, step by step", laboratory_flags.replay),
    "calibrate": ("measure what an engine's steps cost", laboratory_flags.calibrate),
    "validate": ("hold a simulation against its engine", laboratory_flags.validate),
    "completion": ("what a shell needs to complete words", client_flags.completion),
}
ALIASES = {"show": "info"}


def module_of(command: str) -> str:
    """The module that runs it."""
    return f"jpaged.cli.{ALIASES.get(command, command)}"


class Command(argparse.ArgumentParser):
    """Takes flags between its words, too, where `argparse` alone gives up; and says what to do
    about those of vLLM's that it lacks."""

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, rest = super().parse_known_args(args, namespace or argparse.Namespace())
        flags = [word for word in rest if word.startswith("-")]
        for flag in flags:
            if answer := answer_to(flag):
                self.exit(2, f"jpaged: {flag.partition('=')[0]} is vLLM's: {answer}\n")
        for action in self._get_positional_actions():
            if action.nargs in ("*", "+"):
                words = [word for word in rest if not word.startswith("-")]
                setattr(found, action.dest, [*getattr(found, action.dest), *words])
                return found, flags
        return found, rest


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jpaged", description="Paged LLM serving in JAX.")
    parser.add_argument("--version", action="version", version=f"jpaged {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, on stderr")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Command
    )
    for name, (text, add_flags) in COMMANDS.items():
        add_flags(commands.add_parser(name, help=text))
    return parser
