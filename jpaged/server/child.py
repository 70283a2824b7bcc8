"""The server's end of one engine process: begins it, talks to it, and notices when it is gone.

start ─► Hello ─► messages ─► … ─► `ended`: EOF of the socket, or the engine's own last word
             Ping ─► Pong          every other second: one that is stopped does not answer
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import msgspec

from jpaged import errors
from jpaged.errors import EngineDied
from jpaged.server.messages import (
    LENGTH,
    Close,
    Died,
    Hello,
    Log,
    Ping,
    Pong,
    Start,
    ToEngine,
    ToServer,
    Unable,
    decode_to_server,
    encode,
)

BUFFER = 1 << 22  # bytes of messages that are read at once
PING_SECONDS = 1.0
CLOSE_SECONDS = 10.0  # a compilation under way is waited for, but not for ever
KNOWN_ERRORS: dict[str, type[Exception]] = {
    "ConfigError": errors.ConfigError,
    "UnsupportedModel": errors.UnsupportedModel,
    "CheckpointMismatch": errors.UnsupportedModel,  # its own class brings JAX with it
}

logger = logging.getLogger("jpaged")


class Child:
    """An engine process.  `ended` is done when it is gone; its result says why.

    hear: called with each message, on the event loop.  patience: seconds that it may take to
    answer a ping, step_patience: seconds that a step may take; see `is_responsive`.
    """

    def __init__(
        self,
        process: subprocess.Popen,
        writer: asyncio.StreamWriter,
        hear: Callable[[ToServer], None],
        patience: float,
        step_patience: float,
    ):
        self.process, self._writer, self._hear = process, writer, hear
        self._patience, self._step_patience = patience, step_patience
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._last_word: str | None = None
        self._asked_at: float | None = None  # since when a ping is not answered
        self._busy = 0.0
        self._tasks: list[asyncio.Task] = []

    @classmethod
    async def start(
        cls,
        options: dict[str, Any],
        hear: Callable[[ToServer], None],
        patience: float,
        step_patience: float,
    ) -> tuple[Self, Hello]:
        """Begins one and waits until its engine is there.  Raises what the engine raised, or
        `EngineDied`."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER)
        with theirs:
            child = cls(begin(theirs), writer, hear, patience, step_patience)
        try:
            child._tasks.append(asyncio.create_task(child._read(reader)))
            is_main = threading.current_thread() is threading.main_thread()
            child.send(Start(options, logger.getEffectiveLevel(), os.getpid(), is_main))
            hello = await child._hello
        except BaseException:
            await child.kill()
            raise
        child._tasks.append(asyncio.create_task(child._ping()))
        return child, hello

    def send(self, message: ToEngine) -> None:
        """Raises `OverflowError` for numbers of more than 64 bits."""
        encoded = encode(message)
        if not self.ended.done():
            self._writer.write(encoded)

    @property
    def is_responsive(self) -> bool:
        """False once it is gone, while it does not answer, and while it is stuck in a step; time
        spent compiling is not counted."""
        asked_at = self._asked_at
        is_silent = asked_at is not None and time.monotonic() - asked_at > self._patience
        return not (self.ended.done() or is_silent or self._busy > self._step_patience)

    async def _ping(self) -> None:
        while not self.ended.done():
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                self.send(Ping())
            await asyncio.sleep(min(PING_SECONDS, self._patience / 2))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                [length] = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                self._take(decode_to_server(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except msgspec.DecodeError as error:
            self._last_word = f"the engine process is not understood: {error}"
        finally:
            await self._end()

    def _take(self, message: ToServer) -> None:
        match message:
            case Pong(busy):
                self._asked_at, self._busy = None, busy
            case Log(name, level, text):
                logging.getLogger(name).log(level, "%s", text)
            case Hello():
                self._hello.set_result(message)
            case Unable(kind, reason):
                self._hello.set_exception(error_of(kind, reason))
            case Died(reason):
                self._last_word = reason
            case _:
                self._hear(message)

    async def _end(self) -> None:
        """It will say no more: sees to it that it is gone, and tells those who wait."""
        code = await self._exit_code(seconds=1.0)
        reason = self._last_word or f"the engine process {exit_in_words(code)}"
        if not self._hello.done():
            self._hello.set_exception(EngineDied(reason))
        if not self.ended.done():
            self.ended.set_result(reason)

    async def _exit_code(self, seconds: float) -> int:
        """Of the process, which is killed if it does not end by itself."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > until:
                self.process.kill()
                until += seconds
            await asyncio.sleep(0.005)
        return self.process.returncode

    async def close(self) -> None:
        """Lets it give everything back, waits for its end, and forgets it; also if it has died."""
        self.send(Close())
        await self._exit_code(CLOSE_SECONDS)
        await self._forget()

    async def kill(self) -> None:
        self.process.kill()
        await self._exit_code(CLOSE_SECONDS)
        await self._forget()

    async def _forget(self) -> None:
        """Closes the socket, and ends what reads and writes there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        if not self.ended.done():
            self.ended.set_result("the engine was closed")


def begin(connection: socket.socket) -> subprocess.Popen:
    """The process, in a session of its own: what a terminal sends to all is not for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "jpaged.server.engine_process", str(connection.fileno())],
        pass_fds=[connection.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def error_of(kind: str, reason: str) -> Exception:
    """What the engine raised; errors that are not ours as `EngineDied`."""
    known = KNOWN_ERRORS.get(kind)
    return EngineDied(f"{kind}: {reason}") if known is None else known(reason)


def exit_in_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"
