"""Finds a model's files: a local folder as it is, a hub name through huggingface_hub."""

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from jpaged.assets import DEMO_MODEL
from jpaged.errors import UnsupportedModel

# weights in safetensors only: pickled ones are never even fetched
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
UNWANTED = ["consolidated*"]  # a second copy of the weights, in Mistral's own format


def find_folder(model: str, revision: str | None = None) -> Path:
    """The folder of a model.  Downloads what is not in the hub's local cache.

    "demo" is the model that comes with the package.
    """
    if model == "demo":
        return Path(DEMO_MODEL)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith((".", "~")):
        raise UnsupportedModel(f"{model} is no folder")
    try:
        folder = snapshot_download(
            model, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
        return Path(folder)
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UnsupportedModel(
            f"{model!r} is neither a folder here nor a model that the Hugging Face hub gave us "
            f"({type(error).__name__}: {reason})"
        ) from error


def read_json(folder: Path, name: str) -> dict:
    """A JSON file of the folder, or {} where there is none."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text at all
        raise UnsupportedModel(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UnsupportedModel(f"{path} holds no JSON object but {type(values).__name__}")
    return values
