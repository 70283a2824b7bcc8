"""`jpaged pull MODEL`: brings a model from the Hugging Face hub into its cache."""

import argparse
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import DryRunError, HfHubHTTPError, HFValidationError

from jpaged.cli.tables import size
from jpaged.errors import UnsupportedModel
from jpaged.models import read_config
from jpaged.models.hf_config import HFConfig
from jpaged.weights.folder import UNWANTED, WANTED


def run(args: argparse.Namespace) -> int:
    """What cannot be served is refused before its weights are downloaded."""
    if args.model == "demo":
        print("demo comes with jpaged; there is nothing to pull")
        return 0
    try:
        names, num_bytes = plan(args.model, args.revision)
        if not args.force:
            check(args.model, args.revision, names)
        print(f"{args.model}: {len(names)} files, {size(num_bytes)} to download")
        folder = snapshot_download(
            args.model, revision=args.revision, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
    except (DryRunError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise UnsupportedModel(f"{args.model} was not pulled: {reason(error)}") from error
    print(f"{args.model} lies in {folder}")
    return 0


def plan(model: str, revision: str | None) -> tuple[list[str], int]:
    """The files that are needed, and the bytes of them that are not here yet."""
    files = snapshot_download(
        model,
        revision=revision,
        allow_patterns=WANTED,
        ignore_patterns=UNWANTED,
        dry_run=True,
    )
    lacking = [file.file_size or 0 for file in files if file.will_download]
    return [file.filename for file in files], sum(lacking)


def check(model: str, revision: str | None, names: list[str]) -> None:
    """Raises `UnsupportedModel`."""
    try:
        if not any(name.endswith(".safetensors") for name in names):
            raise UnsupportedModel("it has no weights in safetensors")
        if "config.json" not in names:
            raise UnsupportedModel("it has no config.json")
        config = Path(hf_hub_download(model, "config.json", revision=revision))
        read_config(HFConfig.load(config.parent))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{model} could not be served: {error}; --force pulls it") from error


def reason(error: Exception) -> str:
    """In one line."""
    if isinstance(error, DryRunError):
        return "the Hugging Face hub was not reached; is there a network, and HF_HUB_OFFLINE unset?"
    return str(error).strip().partition("\n")[0] or type(error).__name__
