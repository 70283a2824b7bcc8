"""The page as one answer: style and scripts in it, nothing loaded from anywhere.

The palette and the helpers are those of `jpaged.analysis`, so that a page of the cache looks the
same wherever it is drawn.  What a browser may run and reach is said in its headers: these scripts,
by their hashes, and this server.
"""

import base64
import hashlib
from pathlib import Path
from string import Template

from fastapi import Response

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "analysis" / "assets"  # read only: the package needs an extra
STYLE = (SHARED / "report.css", HERE / "page.css")
SCRIPT = (
    SHARED / "basics.js",
    HERE / "server.js",
    HERE / "picture.js",
    HERE / "engine.js",
    HERE / "chat.js",
    HERE / "page.js",
)


def _together(files: tuple[Path, ...]) -> str:
    return "\n".join(file.read_text("utf-8") for file in files)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page() -> tuple[str, dict[str, str]]:
    style, script = _together(STYLE), _together(SCRIPT)
    text = (HERE / "index.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; "
        f"script-src 'sha256-{_hash(script)}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return Template(text).substitute(style=style, script=script), headers


PAGE, HEADERS = _page()


def page(status: int = 200) -> Response:
    return Response(PAGE, status, HEADERS, "text/html")
