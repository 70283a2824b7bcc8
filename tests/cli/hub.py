"""A Hugging Face cache laid out by hand, and a hub that has one model, for tests."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jpaged.assets import DEMO_MODEL

REVISION = "a" * 40


def lay_out(cache: Path, name: str, folder: Path = Path(DEMO_MODEL)) -> Path:
    """A model as the hub's client would store it: files are links to blobs.  Returns its folder."""
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / REVISION
    for part in (repo / "refs", repo / "blobs", snapshot):
        part.mkdir(parents=True)
    (repo / "refs" / "main").write_text(REVISION)
    for file in folder.iterdir():
        shutil.copy(file, repo / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    return snapshot


class Hub(ThreadingHTTPServer):
    """`asked` are the files that were downloaded."""

    def __init__(self, name: str, folder: Path):
        super().__init__(("127.0.0.1", 0), Answering)
        self.name, self.folder, self.asked = name, folder, list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        api, resolve = f"/api/models/{self.server.name}/", f"/{self.server.name}/resolve/"
        path = self.path.partition("?")[0]
        if path.startswith(api + "revision/"):
            self._say(json.dumps({"id": self.server.name, "sha": REVISION}).encode())
        elif path.startswith(api + "tree/"):
            files = [
                {"type": "file", "path": each.name, "size": each.stat().st_size, "oid": each.name}
                for each in self.server.folder.iterdir()
            ]
            self._say(json.dumps(files).encode())
        elif path.startswith(resolve):
            file = self.server.folder / path.rpartition("/")[2]
            if self.command == "GET":
                self.server.asked.append(file.name)
            self._say(file.read_bytes(), {"ETag": f'"{file.name}"', "X-Repo-Commit": REVISION})
        else:
            self._say(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

    do_HEAD = do_GET

    def _say(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest shows what a test says."""


@contextlib.contextmanager
def hub(name: str, folder: Path = Path(DEMO_MODEL)) -> Iterator[Hub]:
    with Hub(name, folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
