"""An engine in a process of its own: `python -m jpaged.server.engine_process FD`.

    main thread      reads messages ─► letters             answers pings, whatever the engine does
    engine's thread                    letters ─► step ─► News

FD is a socket to the server's process.  When that ends, this one does too: the socket closes and,
on Linux, a signal comes.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NoReturn

from jpaged.engine.client import StepNews
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.model_card import model_card
from jpaged.engine.pretended_costs import costs_of
from jpaged.engine.stepping import Stepper
from jpaged.scheduling.report import PageReport
from jpaged.server import garbage
from jpaged.server.messages import (
    LENGTH,
    Abort,
    Add,
    Answer,
    Call,
    Close,
    Died,
    Hello,
    Log,
    News,
    Ping,
    Pong,
    Start,
    ToEngine,
    ToServer,
    Unable,
    decode_to_engine,
    encode,
)
from jpaged.simulator.makers import policy_of

PR_SET_PDEATHSIG = 1
LOGGERS = ("jpaged", "py.warnings")


class Channel:
    """Messages to and from the server.  Several threads may send."""

    def __init__(self, connection: socket.socket):
        self._connection, self._lock = connection, threading.Lock()

    def send(self, message: ToServer) -> None:
        try:
            with self._lock:
                self._connection.sendall(encode(message))
        except OSError:  # the server is gone, and nobody waits for anything any more
            os._exit(1)

    def __iter__(self) -> Iterator[ToEngine]:
        """What the server says, until it is gone."""
        with self._connection.makefile("rb") as incoming:
            while len(header := incoming.read(LENGTH.size)) == LENGTH.size:
                [length] = LENGTH.unpack(header)
                body = incoming.read(length)
                if len(body) < length:
                    return
                yield decode_to_engine(body)


class EngineProcess:
    """Does what the server says."""

    def __init__(self, channel: Channel):
        self._channel = channel
        self._stepper: Stepper | None = None
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """Until the server says `Close`, or is gone."""
        for message in self._channel:
            if isinstance(message, Close):
                return self._close()
            self._hear(message)
        os._exit(1)  # a step may take its time, and nobody waits for it

    def _hear(self, message: ToEngine) -> None:
        match message, self._stepper:
            case Start(), None:
                die_with_parent(message)
                forward_logs(self._channel, message.log_level)
                arguments = (message.options,)
                self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
                self._thread.start()
            case Ping(), _:
                busy = self._stepper.busy_seconds if self._stepper else 0.0
                self._channel.send(Pong(busy))
            case Add(request, text, search), Stepper() as stepper:
                stepper.add(request, text, search)
            case Abort(request_ids), Stepper() as stepper:
                stepper.abort(request_ids)
            case Call(), Stepper() as stepper:
                self._call(stepper, message)
            case _:
                raise AssertionError(f"{type(message).__name__} is out of turn")

    def _run(self, options: dict[str, Any]) -> None:
        """In the engine's thread: its whole life."""
        try:
            engine = build_engine(options)
        except Exception as error:  # whatever it is, the server is to say so
            self._leave(Unable(type(error).__name__, str(error)))
        garbage.settle()
        self._stepper = Stepper(engine, self._tell)
        self._channel.send(Hello(model_card(engine), engine.stats()))
        self._stepper.run()
        reason = self._stepper.ended.result()
        if reason is not None:
            self._leave(Died(reason))

    def _tell(self, news: StepNews) -> None:
        self._channel.send(News.of(news))

    def _call(self, stepper: Stepper, call: Call) -> None:
        def do(engine: LLMEngine) -> PageReport | None:
            match call.name:
                case "page_report":
                    return engine.page_report()
                case "set_policy":
                    engine.set_policy(call.argument)
                case "reset_prefix_cache":
                    engine.reset_prefix_cache()
            return None

        def answer(future: Future[PageReport | None]) -> None:
            error = future.exception()
            if error is None:
                self._channel.send(Answer(call.serial, future.result()))
            else:
                self._channel.send(Answer(call.serial, None, type(error).__name__, str(error)))

        stepper.call(do).add_done_callback(answer)

    def _leave(self, last_word: Unable | Died) -> NoReturn:
        """Ends the process at once: others of its threads may wait for a device that is gone."""
        self._channel.send(last_word)
        sys.stderr.flush()
        os._exit(1)

    def _close(self) -> None:
        """Gives everything back, unless the engine is not even there yet."""
        if self._stepper is None or self._thread is None:
            os._exit(0)
        self._stepper.close()
        self._thread.join()


def build_engine(options: dict[str, Any]) -> LLMEngine:
    """From what the server was given; cost models and policies by the texts that name them."""
    if isinstance(options.get("cost_model"), str):
        options["cost_model"] = costs_of(options["cost_model"])
    if ":" in options.get("policy", ""):
        options["policy"] = policy_of(options["policy"])
    return LLMEngine(options.pop("model"), **options)


def die_with_parent(start: Start) -> None:
    """Asks Linux to kill this process when its parent ends; the socket tells of it elsewhere."""
    if sys.platform == "linux" and start.dies_with_thread:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != start.parent:  # it ended before this was asked
        os._exit(1)


class Forwarder(logging.Handler):
    """Says in the server's log what is said here."""

    def __init__(self, channel: Channel):
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.send(Log(record.name, record.levelno, self.format(record)))


def forward_logs(channel: Channel, level: int) -> None:
    logging.captureWarnings(True)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.addHandler(Forwarder(channel))


def main() -> None:
    # a terminal's Ctrl-C and a supervisor's SIGTERM are for the server, which lets requests finish
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    EngineProcess(Channel(connection)).serve()


if __name__ == "__main__":
    main()
