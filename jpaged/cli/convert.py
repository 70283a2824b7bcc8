"""`jpaged convert MODEL FOLDER`: converts a checkpoint once, for faster loading."""

import argparse
import shutil
from pathlib import Path

from jpaged.config import EngineConfig
from jpaged.engine.build import build_model
from jpaged.engine.progress import progress
from jpaged.models.loading import load_params
from jpaged.weights.orbax import SUBFOLDER, save

SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")


def run(args: argparse.Namespace) -> int:
    """Writes configuration and tokenizer as they are, and the weights in Orbax's format."""
    source, model = build_model(EngineConfig.from_options(args.model, dtype=args.dtype))
    target = Path(args.folder)
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty; name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    with progress(0, "Loading weights", "B") as bar:

        def on_bytes(now: int, total: int) -> None:
            bar.total = total
            bar.update(now)

        params = load_params(source, model, on_bytes)
    save(target, params)
    for path in (path for glob in SMALL_FILES for path in source.glob(glob)):
        if not path.name.endswith(".index.json"):
            shutil.copy(path, target / path.name)
    print(f"{target} holds the model, its weights in {target / SUBFOLDER}")
    return 0
