"""The models that are in the Hugging Face cache, and whether jpaged serves them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HFCacheInfo, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from jpaged.errors import ConfigError


@dataclass(frozen=True)
class Cached:
    """A model there.  folder: of its main revision, or the latest.  used: seconds since 1970.

    place: all that is there of it.
    """

    name: str
    folder: Path
    place: Path
    num_bytes: int
    used: float


def cached_models() -> list[Cached]:
    """By name.  What was begun and has no revision yet is left out."""
    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:  # nothing was ever downloaded
        return []
    return sorted(_models(found), key=lambda model: model.name.lower())


def _models(found: HFCacheInfo) -> Iterator[Cached]:
    for repo in found.repos:
        if repo.repo_type != "model" or not repo.revisions:
            continue
        main = max(repo.revisions, key=lambda each: ("main" in each.refs, each.last_modified))
        folder, place = Path(main.snapshot_path), Path(repo.repo_path)
        yield Cached(repo.repo_id, folder, place, repo.size_on_disk, repo.last_accessed)


def find_cached(name: str) -> Cached:
    """Raises `ConfigError`."""
    if name == "demo":
        raise ConfigError("demo comes with jpaged, and is not in the Hugging Face cache")
    found = {model.name: model for model in cached_models()}
    if name not in found:
        there = ", ".join(found) or "none"
        raise ConfigError(f"{name!r} is not in the Hugging Face cache; there is {there}")
    return found[name]


def why_not(folder: Path) -> str:
    """Why jpaged does not serve what lies there; "" if it does."""
    from converters.checkpoint import Checkpoint, CheckpointMismatch
    from jpaged.errors import UnsupportedModel
    from jpaged.models import read_config
    from jpaged.models.hf_config import HFConfig
    from jpaged.weights.orbax import has_saved

    try:
        read_config(HFConfig.load(folder))
        if not has_saved(folder):
            Checkpoint(folder)
    except (UnsupportedModel, CheckpointMismatch) as error:
        return str(error).replace(f"{folder} ", "").partition(";")[0]
    return ""


def architecture(folder: Path) -> str:
    """As its config.json calls it; "" if it says nothing."""
    from jpaged.weights.folder import read_json

    names = read_json(folder, "config.json").get("architectures") or [""]
    return str(names[0])
