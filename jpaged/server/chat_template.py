"""Chats to text, rendered in a process of their own that is killed when it takes too long."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jpaged.server.errors import ChatRefused

LENGTH = 4  # bytes, before each message
START_SECONDS = 30.0  # of an interpreter on a busy machine


class Templates:
    """One worker, begun with the first chat (or `begin`) and again after each that was killed."""

    def __init__(self, seconds: float = 5.0):
        self.seconds = seconds
        self._worker: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def render(
        self, template: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> str:
        """Raises `RequestRejected` for what the template refuses, or does not finish in time."""
        request = msgspec.msgpack.encode(
            {"template": template, "messages": messages, "options": options}
        )
        async with self._turn:
            reply = await self._ask(request)
        if "refused" in reply:
            raise ChatRefused(f"the chat template refused the messages: {reply['refused']}")
        return reply["text"]

    async def begin(self) -> None:
        """Starts the worker, so that the first chat need not wait for it."""
        async with self._turn:
            await self._running()

    async def _ask(self, request: bytes) -> dict[str, str]:
        worker = await self._running()
        try:
            async with asyncio.timeout(self.seconds):
                return await _converse(worker, request)
        except TimeoutError:
            await self._kill()
            return {"refused": f"it took more than {self.seconds:g} seconds"}
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._kill()
            return {"refused": "it ended the process that rendered it"}
        except BaseException:
            await self._kill()  # cancelled half way: what it still says would answer another
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if self._worker is None or self._worker.returncode is not None:
            self._worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "jpaged.server.template_worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the server, which ends it
            )
            assert self._worker.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                await self._worker.stdout.readexactly(1)
        return self._worker

    async def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None and worker.returncode is None:
            worker.kill()
            await worker.wait()

    async def close(self) -> None:
        async with self._turn:
            await self._kill()


async def _converse(worker: asyncio.subprocess.Process, request: bytes) -> dict[str, str]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(len(request).to_bytes(LENGTH) + request)
    await worker.stdin.drain()
    head = await worker.stdout.readexactly(LENGTH)
    return msgspec.msgpack.decode(await worker.stdout.readexactly(int.from_bytes(head)))
