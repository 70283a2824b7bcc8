"""`jpaged stop NAME|URL|all`: ends servers, when they have finished what they began."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from jpaged.cli.client import Client, ServerError
from jpaged.errors import ConfigError
from jpaged.server.registry import Entry, running

POLL_SECONDS = 0.1
TELL_SECONDS = 2.0  # between two words to somebody who waits
BETWEEN_SIGNALS = 0.3  # two that come together may count as one


def run(args: argparse.Namespace) -> int:
    entries = chosen(running(), args.server)
    for entry in entries:
        end(entry, now=args.now)
    for entry in entries:
        wait(entry)
        print(f"stopped {describe(entry)}")
    if not entries:
        print("no server runs here")
    return 0


def chosen(entries: Sequence[Entry], wanted: str) -> list[Entry]:
    """Those that are meant.  Raises `ConfigError` if that is nobody, or not clear."""
    if wanted == "all":
        return list(entries)
    by_url = [entry for entry in entries if entry.url == wanted.rstrip("/")]
    by_name = [entry for entry in entries if wanted in entry.models]
    found = by_url or by_name
    if not found:
        known = "; ".join(map(describe, entries)) or "none does"
        raise ConfigError(f"no server {wanted!r} runs here: {known}")
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} servers have {wanted}: name one by its URL, {_urls(found)}"
        )
    others = {folder for name, folder in found[0].models.items() if name != wanted}
    if not by_url and others - {found[0].models[wanted]}:
        raise ConfigError(f"{describe(found[0])}; to stop them all, name its URL, {found[0].url}")
    return found


def end(entry: Entry, now: bool) -> None:
    """Asks it to drain; a second time, not to wait for that."""
    for pause in (0.0, BETWEEN_SIGNALS) if now else (0.0,):
        time.sleep(pause)
        with suppress(ProcessLookupError):  # it went by itself meanwhile
            if entry.is_alive:
                os.kill(entry.pid, signal.SIGTERM)


def wait(entry: Entry) -> None:
    """Until it is gone, which it sees to itself: its --shutdown-timeout ends all waiting."""
    told = time.monotonic()
    while entry.is_alive:
        time.sleep(POLL_SECONDS)
        if time.monotonic() > told + TELL_SECONDS:
            told = time.monotonic()
            print(f"{entry.url} finishes {_load(entry)} (--now cuts them off)", file=sys.stderr)


def describe(entry: Entry) -> str:
    return f"{', '.join(entry.models)} at {entry.url}"


def _load(entry: Entry) -> str:
    try:
        count = Client(entry.url, timeout=POLL_SECONDS).get("/load")["server_load"]
    except ServerError:
        return "its requests"
    return f"{count} request{'' if count == 1 else 's'}"


def _urls(entries: Sequence[Entry]) -> str:
    return " or ".join(entry.url for entry in entries)
