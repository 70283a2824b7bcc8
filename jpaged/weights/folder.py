"""Finds a model's files: a local folder as it is, a hub name through huggingface_hub."""

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from jpaged.assets import DEMO_MODEL
from jpaged.errors import UnsupportedModel

DESCRIBING = ["*.json", "*.jinja", "*.model", "*.txt"]
# weights in safetensors only: pickled ones are never even fetched
WANTED = ["*.safetensors", *DESCRIBING]
UNWANTED = ["consolidated*"]  # a second copy of the weights, in Mistral's own format


def find_folder(model: str, revision: str | None = None, *, with_weights: bool = True) -> Path:
    """The folder of a model.  Downloads what is not in the hub's local cache; its weights, too,
    unless nobody needs them.

    "demo" is the model that comes with the package.
    """
    if model == "demo":
        return Path(DEMO_MODEL)
    path = Path(model).expanduser()
    if path.is_dir():
        refuse_links_out(path)
        return path
    if path.is_absolute() or model.startswith((".", "~")):
        raise UnsupportedModel(f"{model} is no folder")
    try:
        folder = snapshot_download(
            model,
            revision=revision,
            allow_patterns=WANTED if with_weights else DESCRIBING,
            ignore_patterns=UNWANTED,
        )
        return Path(folder)
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UnsupportedModel(
            f"{model!r} is neither a folder here nor a model that the Hugging Face hub gave us "
            f"({type(error).__name__}: {reason})"
        ) from error


def refuse_links_out(folder: Path) -> None:
    """Texts lie in their folder, or in the hub's cache that it is of; weights may be linked.

    What a checkpoint's texts say is told to whoever asks, its template for one: a link could tell
    of any file on this machine.  Raises `UnsupportedModel`.
    """
    home = folder.resolve()
    is_cached = home.parent.name == "snapshots" and home.parents[1].name.startswith("models--")
    root = home.parents[2] if is_cached else home
    texts = [path for pattern in DESCRIBING for path in folder.rglob(pattern)]
    outside = sorted(str(path) for path in texts if not path.resolve().is_relative_to(root))
    if outside:
        raise UnsupportedModel(
            f"{outside[0]} is a link that leads out of its folder; put a copy of the file there"
        )


def read_json(folder: Path, name: str) -> dict:
    """A JSON file of the folder, or {} where there is none."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # no JSON, no text at all, or nested too deeply
        raise UnsupportedModel(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UnsupportedModel(f"{path} holds no JSON object but {type(values).__name__}")
    return values
