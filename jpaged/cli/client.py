"""Talks to a server over HTTP, from a command.

Proxies of the environment are not asked: servers are mostly on this machine.
"""

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

KEY_VARIABLES = ("JPAGED_API_KEY", "VLLM_API_KEY")
SECONDS = 10.0  # for an answer that needs no model


class ServerError(RuntimeError):
    """A server refused, failed or could not be reached.  status: 0 if it said nothing."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class Client:
    """timeout: seconds without a word from the server, before it counts as gone."""

    def __init__(self, url: str, key: str | None = None, timeout: float = SECONDS):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no address of a server; write http://HOST:PORT")
        self.url, self.timeout = url.rstrip("/"), timeout
        self._is_secure, self._place = parts.scheme == "https", parts.netloc
        self._path = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if key := key or own_key():
            self._headers["Authorization"] = f"Bearer {key}"

    def text(self, path: str) -> str:
        """What GET answers.  Raises `ServerError`."""
        with self._exchange("GET", path) as answer:
            return answer.read().decode()

    def get(self, path: str) -> Any:
        return json.loads(self.text(path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        with self._exchange("POST", path, body) as answer:
            return json.loads(answer.read())

    def events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What a stream says until it is [DONE].  Raises `ServerError`, also for a stream that
        breaks off.  Closing it hangs up, and the server stops generating."""
        with self._exchange("POST", path, {**body, "stream": True}) as answer:
            for line in answer:
                data = line.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    return
                if data:
                    event = json.loads(data)
                    if "error" in event:
                        raise ServerError(event["error"]["message"], event["error"]["code"])
                    yield event
        raise ServerError("the server broke off in the middle of its answer")

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """A request and its answer, on a connection of its own."""
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        data = None if body is None else json.dumps(body).encode()
        with closing(kind(self._place, timeout=self.timeout)) as connection:
            try:
                connection.request(method, self._path + path, data, self._headers)
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise ServerError(_message_of(answer), answer.status)
                yield answer
            except (OSError, http.client.HTTPException) as error:
                raise ServerError(f"{self.url}: {error}") from error


def own_key() -> str | None:
    """The one in the environment; a server may be told several there."""
    found = [os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)]
    return found[0].split(",")[0] if found else None


def _message_of(answer: http.client.HTTPResponse) -> str:
    text = answer.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, TypeError, KeyError):  # from something that stands before a server
        return f"{answer.status} {answer.reason}: {text[:200].strip()}"
