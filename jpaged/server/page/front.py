"""Before the keys: the page itself, to a browser that has none yet.

It holds nothing but its own script, which asks for a key and sends it with all it asks for.  Still
a 401: nothing of the server is let out, and what is not a browser learns that it needs a key.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from jpaged.server.page.assets import page


class Front:
    def __init__(self, app: ASGIApp, is_guarded: bool):
        self.app, self.is_guarded = app, is_guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.is_guarded and _is_first_visit(scope):
            response = page(401)
            response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _is_first_visit(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
        return False
    return not any(name == b"authorization" for name, _ in scope["headers"])
