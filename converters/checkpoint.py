"""Streams the tensors of a checkpoint folder: one safetensors file, or shards with an index.

Pickles are refused unread: loading one runs whatever code it holds.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes  # noqa: F401  registers bfloat16 and float8 with numpy
import numpy as np
from safetensors import SafetensorError, safe_open

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class CheckpointMismatch(ValueError):
    """A checkpoint that cannot be read or does not fit the model; says all that is wrong."""


class Checkpoint:
    """A folder with `model.safetensors`, or `model.safetensors.index.json` and its shards."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.files = self._find_files()

    def _find_files(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            return self._shards_of(index)
        single = self.folder / "model.safetensors"
        files = [single] if single.is_file() else sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise CheckpointMismatch(self._why_nothing())
        return files

    def _why_nothing(self) -> str:
        pickles = sorted(path.name for glob in PICKLES for path in self.folder.glob(glob))
        if not pickles:
            return f"{self.folder} holds no .safetensors file"
        return (
            f"{self.folder} holds only pickled weights ({', '.join(pickles[:3])}), which run code "
            "when loaded and are refused; convert them once where you trust them: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )

    def _shards_of(self, index: Path) -> list[Path]:
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointMismatch(f"{index} is no index with a weight_map: {error}") from error
        if not names:
            raise CheckpointMismatch(f"{index} names no shard")
        outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
        if outside:
            raise CheckpointMismatch(f"{index} points outside its folder: {outside[:3]}")
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise CheckpointMismatch(
                f"{len(missing)} of {len(names)} shards are missing in {self.folder}: "
                f"{', '.join(missing[:5])}"
            )
        return [self.folder / name for name in names]

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor by name; only one is in memory at a time."""
        for path in self.files:
            try:
                with safe_open(path, framework="numpy") as shard:
                    for name in shard.keys():  # noqa: SIM118  no mapping
                        yield name, shard.get_tensor(name)
            except SafetensorError as error:
                raise CheckpointMismatch(
                    f"{path} is damaged or cut short ({path.stat().st_size} bytes): {error}; "
                    "download it again"
                ) from error
