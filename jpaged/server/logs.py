"""One line for each request when it is over.  Ids, counts and times; never what anybody wrote.

    5f3a… POST /v1/completions: 200 finished, demo@1, 12 + 40 tokens (0 cached), ttft 0.031 s, …
    5f3b… POST /v1/completions: 400 tempersture: unknown field, 0.001 s

Written when a request ends, not while it runs: a thousand streams are a thousand lines, once.
"""

import atexit
import json
import logging
import re
import sys
import threading
from queue import Full, Queue
from typing import Any, TextIO

from starlette.exceptions import HTTPException

from jpaged.server.exchange import UNKNOWN, Exchange

log = logging.getLogger("jpaged.requests")
DIGITS = 6  # of seconds
REFUSALS_A_SECOND = 10  # are told of; a client that asks in a loop fills no disk
MOST_CHARS = 200  # of a reason
QUOTED = re.compile(r"""(?<!\w)(['"]).*\1""")  # what is quoted is somebody's words
MOST_LINES = 10_000  # that wait to be written
LAST_SECONDS = 1.0  # for those that are left at the end


class RequestLog:
    """requests: those that asked a model, and some of what is refused.  access: all others, too.
    as_json: one object a line."""

    def __init__(self, requests: bool = True, access: bool = False, as_json: bool = False):
        self.requests, self.access = requests, access
        self._write = json.dumps if as_json else as_text
        self._pace = Pace(REFUSALS_A_SECOND)

    def add(self, exchange: Exchange) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        if exchange.over:
            is_wanted = self.requests
        else:
            is_refused = self.requests and exchange.status >= 400
            is_wanted = self.access or (is_refused and self._pace.lets(exchange.ended))
        if is_wanted:
            log.info("%s", self._write(entry(exchange) | self._pace.left_out()))


class Pace:
    """Lets so many through in each second, and counts the others."""

    def __init__(self, most: int):
        self.most = most
        self._second, self._count, self._num_left_out = 0, 0, 0

    def lets(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        self._num_left_out += self._count > self.most
        return self._count <= self.most

    def left_out(self) -> dict[str, int]:
        """How many there were since it was asked last, if any."""
        found, self._num_left_out = self._num_left_out, 0
        return {"left_out": found} if found else {}


def entry(exchange: Exchange) -> dict[str, Any]:
    """What is known of an exchange.  Its path is the route as it is declared; of another one, where
    a client may write what he wants, only the beginning."""
    found: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "seconds": round(exchange.seconds, DIGITS),
    }
    if exchange.route == UNKNOWN:
        found["path"] = exchange.path
    if exchange.refusal is not None:
        found["reason"] = reason_of(exchange.refusal)
    return found | of_requests(exchange) if exchange.over else found


def reason_of(error: HTTPException) -> str:
    """In one line, without what it quotes."""
    text = QUOTED.sub("'…'", getattr(error, "reason", "") or str(error.detail))
    return "".join(each if each.isprintable() else "?" for each in text[:MOST_CHARS]).rstrip(".")


def of_requests(exchange: Exchange) -> dict[str, Any]:
    """Of its requests to an engine, as a rule one: sums, the first token's time, how they ended."""
    over = exchange.over
    started = [each for each, _ in over]
    firsts = [
        each.progress.first - each.request.arrival
        for each in started
        if each.progress.first is not None
    ]
    return {
        "model": f"{started[0].served.name}@{started[0].served.version}",
        "outcome": ",".join(sorted({outcome for _, outcome in over})),
        "num_prompts": len(over),
        "prompt_tokens": sum(len(each.prompt_token_ids) for each in started),
        "cached_tokens": sum(each.progress.num_cached for each in started),
        "output_tokens": sum(each.progress.num_tokens for each in started),
        "ttft": round(min(firsts), DIGITS) if firsts else None,
        "finish_reasons": sorted(
            {reason for each in started for reason in each.progress.finish_reasons.values()}
        ),
    }


def as_text(found: dict[str, Any]) -> str:
    where = found.get("path") or found["route"]
    text = f"{found['request_id']} {found['method']} {where}: {found['status']}"
    if "model" in found:
        ttft = "no token" if found["ttft"] is None else f"ttft {found['ttft']:.3f} s"
        text += (
            f" {found['outcome']}, {found['model']}, {found['prompt_tokens']} + "
            f"{found['output_tokens']} tokens ({found['cached_tokens']} cached), {ttft}"
        )
    elif "reason" in found:
        text += f" {found['reason']}"
    more = f" ({found['left_out']} refusals before it left out)" if "left_out" in found else ""
    return f"{text}, {found['seconds']:.3f} s{more}"


def write_to_stdout(as_json: bool) -> None:
    """Lets the lines out, as they are in JSON, or else with the time before them."""
    handler = Patient(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s" if as_json else "%(asctime)s %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    atexit.register(handler.close)


class Patient(logging.Handler):
    """Writes in a thread of its own: whoever reads the log slowly, or not at all, or has a full
    disk, must hold up no stream.  Lines that nobody takes are dropped, and counted."""

    def __init__(self, file: TextIO, most: int = MOST_LINES):
        super().__init__()
        self.num_dropped = 0
        self._file, self._lines = file, Queue[str | None](most)
        self._thread = threading.Thread(target=self._run, name="jpaged-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        self._put(self.format(record) + "\n")

    def _put(self, line: str | None) -> None:
        try:
            self._lines.put_nowait(line)
        except Full:
            self.num_dropped += 1

    def _run(self) -> None:
        for line in iter(self._lines.get, None):
            try:
                self._file.write(line)
                self._file.flush()
            except OSError:  # a full disk, a closed pipe: there is nobody to tell
                self.num_dropped += 1

    def close(self) -> None:
        """Waits for what is left, but not for ever."""
        self._put(None)
        self._thread.join(LAST_SECONDS)
        super().close()
