"""HEAD: what GET answers, without the body, which the HTTP server leaves out.

Innermost: metrics, keys and the log see the method that was asked.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class Heads:
    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self.app(asked, receive, send)
        finally:
            if "route" in asked:  # for whoever counts by it
                scope["route"] = asked["route"]
