"""HTTP/1.1 as uvicorn reads it, with limits that are reached before there is a request.

uvicorn collects headers without end and waits for them for ever.  Here a client has so many bytes
and so many seconds; what is no HTTP at all is refused in the words of every other refusal.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jpaged.server import limits
from jpaged.server.errors import ApiError, error_json


class LimitedHttp(HttpToolsProtocol):
    """One connection."""

    _num_header_bytes = 0
    _reads_headers = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._reads_headers:
            self._num_header_bytes += len(data)
            if self._num_header_bytes > limits.MAX_HEADER_BYTES and not self._is_closing:
                self._refuse(
                    ApiError(431, f"The headers are over {limits.MAX_HEADER_BYTES} bytes.")
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reads_headers, self._num_header_bytes = True, 0
        self._wait_for_headers()

    def on_headers_complete(self) -> None:
        self._reads_headers = False
        self._forget_deadline()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, msg))

    def _refuse(self, error: ApiError) -> None:
        body, status = error_json(error), error.status_code
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _wait_for_headers(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(limits.HEADER_SECONDS, self._is_late)

    def _is_late(self) -> None:
        if not self._is_closing:
            seconds = limits.HEADER_SECONDS
            self._refuse(ApiError(408, f"The headers did not arrive within {seconds:g} seconds."))

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def _is_closing(self) -> bool:
        return self.transport.is_closing()
