"""Several started requests as one: their deltas together as they come, or each as a whole."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from starlette.types import Receive

from jpaged.engine.outputs import CompletionOutput, PositionLogprobs, RequestOutput
from jpaged.server.service import Started
from jpaged.server.sse import unless_gone


async def together(started: Sequence[Started]) -> AsyncIterator[tuple[int, RequestOutput]]:
    """(which of them, delta), as they come.  The first that fails fails the whole."""
    if len(started) == 1:
        async for output in started[0].deltas():
            yield 0, output
        return
    streams = [each.deltas() for each in started]
    tasks = {asyncio.ensure_future(anext(stream)): at for at, stream in enumerate(streams)}
    try:
        while tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                at = tasks.pop(task)
                output = task.result()
                yield at, output
                if not output.finished:
                    tasks[asyncio.ensure_future(anext(streams[at]))] = at
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def whole(receive: Receive, started: Sequence[Started]) -> list[RequestOutput]:
    """All of each.  Raises `ApiError`, and `ClientGone` if the client leaves; what still runs is
    aborted then."""
    try:
        return await unless_gone(receive, _all(started))
    finally:
        for each in started:
            await each.close()


async def _all(started: Sequence[Started]) -> list[RequestOutput]:
    found = [_Whole() for _ in started]
    async for at, output in together(started):
        found[at].add(output)
    return [each.output() for each in found]


@dataclass
class _Sample:
    texts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[PositionLogprobs] = field(default_factory=list)
    last: CompletionOutput | None = None

    def add(self, delta: CompletionOutput) -> None:
        self.texts.append(delta.text)
        self.tokens += delta.token_ids
        self.logprobs += delta.logprobs or ()
        self.last = delta

    def output(self) -> CompletionOutput:
        assert self.last is not None
        has_logprobs = self.last.logprobs is not None
        return replace(
            self.last,
            text="".join(self.texts),
            token_ids=self.tokens,
            logprobs=self.logprobs if has_logprobs else None,
        )


class _Whole:
    """Deltas added up."""

    def __init__(self) -> None:
        self._samples: dict[int, _Sample] = {}
        self._last: RequestOutput | None = None
        self._prompt_logprobs: list[PositionLogprobs | None] | None = None

    def add(self, delta: RequestOutput) -> None:
        self._last = delta
        self._prompt_logprobs = delta.prompt_logprobs or self._prompt_logprobs
        for sample in delta.outputs:
            self._samples.setdefault(sample.index, _Sample()).add(sample)

    def output(self) -> RequestOutput:
        assert self._last is not None
        outputs = [self._samples[index].output() for index in sorted(self._samples)]
        return replace(self._last, outputs=outputs, prompt_logprobs=self._prompt_logprobs)
