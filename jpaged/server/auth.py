"""API keys: every route asks for one, but for those that are named here.

The path is compared as it is routed, and what is not known to be open is closed: a new route, or a
path that somebody spells in a new way, needs a key until somebody decides otherwise.
"""

import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from jpaged.server.errors import ApiError
from jpaged.server.refusing import refuse

OPEN = frozenset({"/health", "/ping"})
SCHEME = b"bearer "


class Auth:
    """keys: any of them opens.  `scope["state"]["client"]` names whose it was, "" without keys."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...] = (), is_open: frozenset[str] = OPEN):
        self.app, self.is_open = app, is_open
        # of equal length, so that comparing takes as long for every guess
        self._clients = {_digest(key.encode()): client_of(key) for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = self._client(scope["headers"]) if self._clients else ""
        if client is None and scope["path"] not in self.is_open:
            error = ApiError(
                401,
                "A valid API key is needed: Authorization: Bearer KEY.",
                headers={"www-authenticate": "Bearer"},
            )
            await refuse(error, receive, send)
            return
        scope["state"]["client"] = client or ""
        await self.app(scope, receive, send)

    def _client(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """Who the key says it is; None without a valid one, or with two headers."""
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1 or given[0][: len(SCHEME)].lower() != SCHEME:
            return None
        digest = _digest(given[0][len(SCHEME) :])
        found = [who for known, who in self._clients.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def client_of(key: str) -> str:
    """A name for the owner of a key that does not tell the key."""
    return "key-" + hashlib.sha256(b"client:" + key.encode()).hexdigest()[:12]
