"""`jpaged run MODEL [PROMPT]`: talks to a model, and starts a server for it where none runs."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jpaged.cli.background import lease_of, log_of, started
from jpaged.cli.client import Client, ServerError
from jpaged.cli.conversation import Conversation
from jpaged.cli.options import sampling_options
from jpaged.cli.terminal import converse, say, write
from jpaged.errors import ConfigError
from jpaged.server.registry import Entry, running
from jpaged.weights.folder import find_folder

PATIENCE = 600.0  # seconds of silence: a long queue, a step shape that is compiled


def run(args: argparse.Namespace) -> int:
    text = prompt_of(args)
    with server_for(args) as (url, model):
        talk = Conversation(
            Client(url, timeout=PATIENCE), model, sampling_options(args), args.system
        )
        return converse(talk) if text is None else once(talk, text)


def prompt_of(args: argparse.Namespace) -> str | None:
    """What is to be answered; None if somebody sits there to talk.  Raises `ConfigError`."""
    if not args.prompt and sys.stdin.isatty():
        return None
    text = " ".join(args.prompt) if args.prompt else sys.stdin.read().removesuffix("\n")
    if not text.strip():
        raise ConfigError("the prompt is empty; write one, after the model or to standard input")
    return text


def once(talk: Conversation, text: str) -> int:
    for piece in talk.ask(text):
        write(piece)
    write("\n")
    return 0


@contextmanager
def server_for(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The URL of a server that has the model, and what it is called there."""
    if args.url:
        yield args.url, args.model
        return
    folder = os.path.realpath(find_folder(args.model))  # downloads it here, where progress shows
    for entry in running():
        name = name_in(entry, args.model, folder)
        if name is None or not is_well(entry):
            continue
        with lease_of(entry, args.keep) as is_held:
            if is_held:
                yield entry.url, name
                return
    words = ["serve", args.model, "--host", "127.0.0.1", "--port", "0"]
    say(f"starting a server for {args.model} …")
    with started(words, args.keep) as entry:
        if args.keep:
            say(f"it stays at {entry.url}; `jpaged stop {args.model}` ends it")
            say(f"what it says is in {log_of(entry)}")
        yield entry.url, name_in(entry, args.model, folder) or args.model


def name_in(entry: Entry, model: str, folder: str) -> str | None:
    if model in entry.models:
        return model
    names = (name for name, path in entry.models.items() if os.path.realpath(path) == folder)
    return next(names, None)


def is_well(entry: Entry) -> bool:
    try:
        Client(entry.url).text("/health")
    except ServerError:
        return False
    return True
