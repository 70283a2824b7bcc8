"""A browser without a window, told what to do over the DevTools protocol, through a pipe."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from browser import BROWSERS, FLAGS

DRIVEN = "--hide-scrollbars --remote-debugging-pipe"


class Tab:
    """One page.  problems: what its console complained of, and what its scripts failed with."""

    def __init__(self, commands: Any, answers: Any):
        self._commands, self._answers, self._serial = commands, answers, 0
        self._session: str | None = None
        self._rest = b""
        self.problems: list[str] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol.  Raises `RuntimeError` for what it refuses."""
        self._serial += 1
        session = {} if self._session is None else {"sessionId": self._session}
        message = {"id": self._serial, "method": method, "params": params, **session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            heard = self._next()
            if heard.get("id") == self._serial:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']['message']}")
                return heard["result"]
            self._note(heard)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._answers.fileno(), 1 << 20)
            if not more:
                raise RuntimeError("the browser is gone")
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def _note(self, heard: dict[str, Any]) -> None:
        params = heard.get("params", {})
        match heard.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.problems.append(params["entry"]["text"])

    def js(self, expression: str) -> Any:
        """What an expression comes to, its promise awaited."""
        found = self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 10.0) -> Any:
        """Waits until it comes to something true, and gives that."""
        until = time.monotonic() + seconds
        while (found := self.js(expression)) in (None, False, 0, ""):  # an element is {}
            if time.monotonic() > until:
                raise TimeoutError(f"{expression} never held; {self.problems}")
            time.sleep(0.03)
        return found

    def open(self, url: str) -> None:
        self.do("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def type(self, text: str) -> None:
        """Into whatever has the focus."""
        self.do("Input.insertText", text=text)

    def press(self, key: str, shift: bool = False) -> None:
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40}
        extra = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        common = {"key": key, "modifiers": 8 if shift else 0}
        number = code.get(key, ord(key[0]))
        self.do(
            "Input.dispatchKeyEvent",
            type="keyDown",
            windowsVirtualKeyCode=number,
            **common,
            **extra,
        )
        self.do("Input.dispatchKeyEvent", type="keyUp", windowsVirtualKeyCode=number, **common)

    def move_to(self, x: float, y: float) -> None:
        self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def size(self, width: int, height: int) -> None:
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """ "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.do("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        data = self.do("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Tab]:
    """A tab of a new browser, whose profile lies in the folder."""
    name = next(filter(None, map(shutil.which, BROWSERS)))
    (read_end, commands), (answers, write_end) = os.pipe(), os.pipe()
    # the browser reads at descriptor 3 and writes at 4
    shell = f'exec "$@" 3<&{read_end} 4>&{write_end}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "-", name, *f"{FLAGS} {DRIVEN}".split(), f"--user-data-dir={folder}"],
        pass_fds=(read_end, write_end),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    with open(commands, "wb") as ours, open(answers, "rb", buffering=0) as theirs:
        try:
            yield Tab(ours, theirs)
        finally:
            process.terminate()
            process.wait(timeout=10)
