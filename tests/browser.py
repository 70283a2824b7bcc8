"""A page as a browser shows it, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
DUMP = "--enable-logging=stderr --virtual-time-budget=2000 --dump-dom"
needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason=f"no browser: {BROWSERS}"
)


def in_browser(text: str, folder: Path) -> tuple[str, list[str]]:
    """The page as its scripts have left it, and what the browser said of them."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    (folder / "page.html").write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [
            browser,
            *f"{FLAGS} {DUMP}".split(),
            f"--user-data-dir={folder}/user",
            f"file://{folder}/page.html",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
