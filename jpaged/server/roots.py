"""Which folders models may be loaded from while a server runs."""

from collections.abc import Sequence
from pathlib import Path

from jpaged.server.errors import ApiError

DEMO = "demo"  # comes with the package


def allowed_folder(path: str, roots: Sequence[str]) -> str:
    """The folder, with links resolved, if it lies in one of the roots.  Raises `ApiError`.

    What is outside and what is not there are refused in the same words: nobody learns what exists.
    """
    if path == DEMO:
        return path
    refusal = ApiError(403, f"{path!r} is no folder within an allowed root (--model-root).", "path")
    if "\0" in path:
        raise refusal
    for root in map(Path, roots):
        folder = (root / path).resolve()
        if folder.is_dir() and folder.is_relative_to(root.resolve()):
            _refuse_links_out(folder, root.resolve(), refusal)
            return str(folder)
    raise refusal


def _refuse_links_out(folder: Path, root: Path, refusal: ApiError) -> None:
    """A file of the checkpoint may be a link, as in the hub's cache, but not out of the root."""
    for file in folder.iterdir():
        if not file.resolve().is_relative_to(root):
            raise refusal
