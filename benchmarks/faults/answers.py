"""Clients of a server, and what each of them can tell of its answer, however that ended."""

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

EVENT = re.compile(rb"data: (.*?)\r?\n")
Address = tuple[str, int]
Body = dict[str, Any]


@dataclass
class Answer:
    """As a client saw it.  Times are monotonic, 0 if it did not come to it."""

    raw: bytes = b""
    ended: float = 0.0
    firsts: list[float] = field(default_factory=list)  # when something came

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1]) if self.raw.startswith(b"HTTP/1.1 ") else 0

    @property
    def content(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @cached_property
    def events(self) -> list[Any]:
        texts = [found.decode() for found in EVENT.findall(self.content)]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]

    @property
    def choices(self) -> list[Any]:
        return [each for event in self.events if event != "[DONE]" for each in _choices(event)]

    @property
    def text(self) -> str:
        return "".join(each["text"] for each in self.choices)

    @property
    def kind(self) -> str:
        """whole, refused or failed (with the status), cut off; or `silent`: what must not be."""
        if not self.ended:
            return "waits"
        if not self.raw:
            return "cut off"
        if self.status != 200:
            return f"refused {self.status}" if b'"error"' in self.content else "silent"
        if not self.events:
            return "whole" if b'"finish_reason"' in self.content else "silent"
        return self._kind_of_stream()

    def _kind_of_stream(self) -> str:
        *_, last = self.events
        samples = {each["index"] for each in self.choices}
        ended = {each["index"] for each in self.choices if each["finish_reason"]}
        is_all = bool(ended) and ended == samples  # of several samples one may end before a fault
        if last == "[DONE]":
            return "whole" if is_all else "silent"
        if is_all or "[DONE]" in self.events:
            return "silent"
        if "error" in last:
            return f"failed {last['error']['code']}"
        # an answer in chunks that lacks the last one is an error to every client
        return "silent" if self.raw.endswith(b"0\r\n\r\n") else "cut off"


def _choices(event: Body) -> list[Any]:
    return event.get("choices", [])


def request(path: str, body: Body) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"connection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def stream(max_tokens: int, seed: int = 0, prompt: Any = "Once upon a time", **more: Any) -> bytes:
    """A completion that says so many tokens."""
    body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    return request("/v1/completions", {**body, "seed": seed, **more})


def chat(text: str, **more: Any) -> bytes:
    """A short one, answered as a whole."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 3}
    return request("/v1/chat/completions", {**body, **more})


class Load(threading.Thread):
    """Asks for several answers at once, and reads them."""

    def __init__(self, address: Address, asked: list[bytes]):
        super().__init__(daemon=True)
        self.address, self.asked = address, asked
        self.answers = [Answer() for _ in asked]
        self.start()

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(
            *(read(self.address, *each) for each in zip(self.asked, self.answers, strict=True))
        )

    def has_begun(self, count: int | None = None) -> bool:
        """Whether so many have said something, or all."""
        wanted = len(self.answers) if count is None else count
        return sum(bool(each.firsts) for each in self.answers) >= wanted

    @property
    def kinds(self) -> Counter[str]:
        return Counter(each.kind for each in self.answers)

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.answers]

    def seconds_since(self, moment: float) -> float:
        """Until the last of them had ended."""
        return max(each.ended for each in self.answers) - moment


class Loop(threading.Thread):
    """So many clients that ask again and again until told to stop; `ask` makes each request.

    outcomes: how each ended, and when.
    """

    def __init__(self, address: Address, count: int, ask: Callable[[int], bytes]):
        super().__init__(daemon=True)
        self.address, self.count, self.ask = address, count, ask
        self.outcomes: list[tuple[str, float]] = []
        self.num_asked = 0
        self.is_over = threading.Event()
        self.start()

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(self.count)))

    async def _one(self) -> None:
        while not self.is_over.is_set():
            answer = Answer()
            self.num_asked += 1
            await read(self.address, self.ask(self.num_asked), answer)
            self.outcomes.append((answer.kind, answer.ended))
            if answer.status != 200:
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        """Waits for what is under way."""
        self.is_over.set()
        self.join(30)

    @property
    def kinds(self) -> Counter[str]:
        """How those ended that ended, and who still waits."""
        kinds = Counter(kind for kind, _ in self.outcomes)
        num_waiting = self.num_asked - len(self.outcomes)
        return kinds + Counter({"waits": num_waiting})


async def read(address: Address, asked: bytes, answer: Answer) -> None:
    writer = None
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(asked)
        while found := await reader.read(65536):
            answer.raw += found
            answer.firsts.append(time.monotonic())
    except OSError:  # refused, reset: what came until then is in the answer
        pass
    finally:
        answer.ended = time.monotonic()
        if writer is not None:
            writer.close()
