"""`jpaged completion SHELL`: makes a shell complete commands, flags, and names of models.

The shell asks `jpaged` itself for words, which therefore imports as little as it does for --help.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import argcomplete
from argcomplete.shell_integration import shellcode

from jpaged.policies import NAMES as POLICIES
from jpaged.server.registry import running


def run(args: argparse.Namespace) -> int:
    print(shellcode(["jpaged"], shell=args.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Says the words that fit, and ends the process."""
    for action in _actions(parser):
        if action.dest == "model":
            action.completer = _models  # type: ignore[attr-defined]
        elif action.dest == "server":
            action.completer = _servers  # type: ignore[attr-defined]
        elif action.dest in ("policy", "policies"):
            action.completer = _policies  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)
        else:
            yield action


def _models(**_: object) -> list[str]:
    """The demo and what lies in the hub's cache, told by its folders: reading it takes longer."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    folders = [path.name.removeprefix("models--") for path in cache.glob("models--*")]
    return ["demo", *(name.replace("--", "/") for name in folders)]


def _policies(**_: object) -> list[str]:
    return list(POLICIES)


def _servers(**_: object) -> list[str]:
    found = running()
    return ["all", *(name for entry in found for name in entry.models), *(e.url for e in found)]
