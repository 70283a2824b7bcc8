"""`jpaged rm MODEL`: takes models out of the Hugging Face cache."""

import argparse
import shutil
import sys

from jpaged.cli.cached import find_cached
from jpaged.cli.tables import size
from jpaged.errors import ConfigError
from jpaged.server.registry import running


def run(args: argparse.Namespace) -> int:
    """Asks first, unless told --yes.  1 if the answer was no."""
    models = [find_cached(name) for name in args.model]
    for model in models:
        refuse_in_use(model.name, str(model.folder))
    names = ", ".join(model.name for model in models)
    if not args.yes and not agreed(f"remove {names} from the Hugging Face cache?"):
        print("nothing was removed")
        return 1
    for model in models:
        # not by revision, as the hub's client has it: copies of a model have the same ones
        shutil.rmtree(model.place)
    print(f"removed {names}: {size(sum(model.num_bytes for model in models))}")
    return 0


def refuse_in_use(name: str, folder: str) -> None:
    """Raises `ConfigError`."""
    users = [entry for entry in running() if folder in entry.models.values()]
    if users:
        raise ConfigError(f"{name} is being served at {users[0].url}; `jpaged stop` that first")


def agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody is here to answer; say --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
