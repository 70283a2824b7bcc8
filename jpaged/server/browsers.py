"""What a page of another site can make a visitor's browser send here, and why it gets nothing.

    simple requests   any page may post a form or a text to any address, unasked.  Only what says
                      that it is JSON is read, for which a browser asks us first
    DNS rebinding     a page may give its own name our address, and is a page of ours then.  Where
                      only this machine is let in, no name counts that public DNS could give

A key stops both, since no page knows it.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from jpaged.server.errors import ApiError
from jpaged.server.refusing import refuse

JSON_TYPE = b"application/json"
CHARSETS = ("", "charset=utf-8", "charset=utf8")
# Ollama's examples and Triton's client send JSON and call it something else, or nothing
LENIENT = ("/api/", "/v2/")
OF_BROWSERS = (b"origin", b"sec-fetch-site")  # one of them is in all that a page sends unasked
PORT = re.compile(r":\d*$")
PRIVATE = (".localhost", ".internal")  # nobody can own such a name


class Names:
    """The middleware of a server that this machine alone may reach.  allowed: names besides."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str] = frozenset()):
        self.app, self.allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"] if scope["type"] == "http" else ()
        names = {name_of(value) for header, value in headers if header == b"host"}
        foreign = sorted(name for name in names - self.allowed if is_public(name))
        if not foreign:
            await self.app(scope, receive, send)
            return
        error = ApiError(
            403,
            f"This server is for its own machine, which is not called {foreign[0][:100]!r}: ask "
            f"localhost, or start it with --allowed-origins http://{foreign[0][:100]} or a key.",
            "Host",
        )
        await refuse(error, receive, send)


def name_of(host: bytes) -> str:
    """Of a Host header: in small letters, without the port."""
    text = host.decode("latin-1").strip().lower()
    name = PORT.sub("", text).rstrip(".")
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


def names_of(origins: tuple[str, ...]) -> frozenset[str]:
    return frozenset(filter(None, (urlsplit(origin).hostname for origin in origins)))


def is_public(name: str) -> bool:
    """Whether somebody could own it: it is no address, and no name of this network."""
    if "." not in name or name.endswith(PRIVATE):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def accept_as_json(scope: Scope) -> None:
    """Lets a body pass for JSON in UTF-8; its header says so from now on.  Raises `ApiError`."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    found = [value.decode("latin-1").lower() for name, value in headers if name == b"content-type"]
    kind, _, rest = (found[0] if found else "").partition(";")
    is_utf8 = rest.replace(" ", "").replace('"', "") in CHARSETS and len(found) < 2
    if is_utf8 and kind.strip().encode("latin-1") == JSON_TYPE:
        return
    is_from_page = any(name in OF_BROWSERS for name, _ in headers)
    if not is_utf8 or is_from_page or not scope["path"].startswith(LENIENT):
        raise ApiError(415, "Content-Type must be application/json, in UTF-8.", "Content-Type")
    others = [each for each in headers if each[0] != b"content-type"]
    scope["headers"] = [*others, (b"content-type", JSON_TYPE)]
