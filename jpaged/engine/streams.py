"""Outputs from one engine to many readers, each at its own pace.

    StepNews ─► deliver ─► Stream "a" ─► async for …
                           Stream "b"    (slow: finds what came meanwhile merged into one output)

A stream holds one output at most, so what waits for a slow reader is never more than what its
request may say.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Self
from weakref import WeakValueDictionary

from jpaged.engine.outputs import CompletionOutput, RequestOutput
from jpaged.errors import RequestFailed, RequestRejected
from jpaged.sampling_params import RequestOutputKind
from jpaged.scheduling.request import Request


class Stream:
    """The outputs of one request, for one reader.  Closing or forgetting it aborts the request."""

    def __init__(self, request: Request, prompt_text: str | None, abort: Callable[[str], None]):
        self.request_id, self._abort = request.id, abort
        self.prompt = prompt_text, list(request.prompt)
        self._is_delta = request.params.output_kind is RequestOutputKind.DELTA
        self._output: RequestOutput | None = None
        self._error: Exception | None = None
        self._has_ended = False  # nothing more will come
        self._reader: asyncio.Future[None] | None = None

    def push(self, output: RequestOutput) -> None:
        if self._output is not None and self._is_delta:
            output = merged(self._output, output)
        self._output, self._has_ended = output, output.finished
        self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the stream with this, once what came before it is read."""
        self._error, self._has_ended = error, True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RequestOutput:
        while self._output is None and not self._has_ended:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                await self.aclose()
                raise
            finally:
                self._reader = None
        output, self._output = self._output, None
        if output is not None:
            return output
        error, self._error = self._error, None
        raise error or StopAsyncIteration

    async def aclose(self) -> None:
        """Aborts the request, if it has not ended."""
        self._output = self._error = None
        self._leave()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._abort(self.request_id)


class Streams:
    """The streams of one event loop; whoever forgets his is not kept here.

    ask_abort: tells the engine that a reader went away; any thread may call it.  The id may be used
    again at once: what the engine says of it until it confirms the abort is dropped.
    """

    def __init__(self, ask_abort: Callable[[list[str]], None]):
        self._ask_abort = ask_abort
        self._streams: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._leaving: dict[str, int] = {}  # how many aborts of each id are not confirmed

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._streams

    def __len__(self) -> int:
        return len(self._streams)

    def refuse_known(self, request_id: str) -> None:
        """Raises `RequestRejected` for an id that is in flight."""
        if request_id in self._streams:
            raise RequestRejected(f"request id {request_id!r} is in flight; choose another")

    def open(self, request: Request, prompt_text: str | None) -> Stream:
        self.refuse_known(request.id)
        stream = self._streams[request.id] = Stream(request, prompt_text, self._forget)
        return stream

    def prompt_of(self, request_id: str) -> tuple[str | None, list[int]]:
        """Text and tokens of a request's prompt; nothing, if its reader is gone."""
        stream = self._streams.get(request_id)
        return (None, []) if stream is None else stream.prompt

    def _forget(self, request_id: str) -> None:
        self._streams.pop(request_id, None)
        self._leaving[request_id] = self._leaving.get(request_id, 0) + 1
        self._ask_abort([request_id])

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests, as an error: their readers did not ask for it."""
        for request_id in request_ids:
            if request_id in self._streams:
                error = RequestFailed(f"request {request_id} was aborted")
                self._streams[request_id].fail(error)
                self._forget(request_id)

    def deliver(
        self,
        outputs: Iterable[RequestOutput],
        failed: dict[str, str],
        refused: dict[str, str],
        aborted: Iterable[str],
    ) -> None:
        """Hands a step's news to those it is about."""
        for request_id in aborted:
            self._confirm(request_id)
        streams, leaving = self._streams, self._leaving
        for output in outputs:
            stream = streams.get(output.request_id)
            if stream is not None and output.request_id not in leaving:
                stream.push(output)
                if output.finished:
                    streams.pop(output.request_id)
        for request_id, reason in failed.items():
            self._fail(request_id, RequestFailed(reason, {request_id: reason}))
        for request_id, reason in refused.items():
            self._fail(request_id, RequestRejected(reason))

    def _confirm(self, request_id: str) -> None:
        count = self._leaving.pop(request_id, 0) - 1
        if count > 0:
            self._leaving[request_id] = count

    def _fail(self, request_id: str, error: Exception) -> None:
        if request_id not in self._leaving and request_id in self._streams:
            self._streams.pop(request_id).fail(error)

    def fail_all(self, make: Callable[[], Exception]) -> None:
        """Ends every stream; the engine is gone, and confirms nothing any more."""
        for stream in list(self._streams.values()):
            stream.fail(make())
        self._streams.clear()
        self._leaving.clear()


def merged(older: RequestOutput, newer: RequestOutput) -> RequestOutput:
    """Two deltas as one."""
    samples = {sample.index: sample for sample in older.outputs}
    for sample in newer.outputs:
        before = samples.get(sample.index)
        samples[sample.index] = sample if before is None else _appended(before, sample)
    return replace(
        newer,
        outputs=[samples[index] for index in sorted(samples)],
        prompt_logprobs=newer.prompt_logprobs or older.prompt_logprobs,
        metrics=newer.metrics or older.metrics,
    )


def _appended(older: CompletionOutput, newer: CompletionOutput) -> CompletionOutput:
    logprobs = newer.logprobs
    return replace(
        newer,
        text=older.text + newer.text,
        token_ids=[*older.token_ids, *newer.token_ids],
        logprobs=None if logprobs is None else [*(older.logprobs or []), *logprobs],
    )
