"""A running engine as a value: everything it knows of what is in flight, and its pages.

    engine ──► Snapshot ──► save(folder) ──► load(folder) ──► another process
                  ├──► a branch under policy A
                  └──► a branch under policy B, from the same instant

Weights, compiled steps and tokenizer are not in it: an engine of the same model and sizes has them.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jpaged.errors import SnapshotMismatch
from jpaged.layers.paged import KVPages
from jpaged.models.base import KVCache

FORMAT = 2
SIZES = (
    *("page_size", "num_pages", "max_model_len", "max_num_seqs", "max_num_batched_tokens"),
    "max_logprobs",  # requests in flight may want so many, and beams do
)
SAMPLED_BYTES, SAMPLES = 4096, 64  # of each file of weights


@dataclass(frozen=True)
class Mark:
    """What two engines must have in common for one to go on where the other stands."""

    model: str  # a digest of the checkpoint
    dtype: str
    page_size: int
    num_pages: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_logprobs: int
    format: int = FORMAT

    @property
    def sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in SIZES}

    def check(self, other: "Mark") -> None:
        """Raises `SnapshotMismatch`, naming all that differs."""
        mine, theirs = asdict(self), asdict(other)
        wrong = [
            f"{name} is {theirs[name]} there and {mine[name]} here"
            for name in mine
            if mine[name] != theirs[name]
        ]
        if wrong:
            raise SnapshotMismatch(
                f"the snapshot is of another engine: {'; '.join(wrong)}; build one like it "
                "(LLMEngine.resume does)"
            )


@dataclass(frozen=True)
class Snapshot:
    """A moment of an engine.  Nothing in it changes, whatever the engine does next.

    config: the engine's options, to build another.  taken_at: seconds of its clock.  state: the
    host's side, frozen (`freezing.py`), None if it comes from a file; portable_state: the same
    without a policy of the user's own, whose name is `policy`.  pages: which pages of the cache
    `kv_pages` are, side by side, in plain order, padded; parcels: the pages of each swapped
    sequence, in the order in which they wait.
    """

    mark: Mark
    config: dict[str, Any]
    taken_at: float
    state: bytes | None
    portable_state: bytes
    policy: str | None
    pages: tuple[int, ...]
    kv_pages: KVCache
    parcels: tuple[KVCache, ...]

    @property
    def num_bytes(self) -> int:
        leaves = jax.tree.leaves((self.kv_pages, self.parcels))
        return len(self.portable_state) + sum(leaf.nbytes for leaf in leaves)

    def save(self, folder: str | Path) -> None:
        """Writes a folder: numbers as JSON, state as bytes, pages in Orbax's format."""
        path = Path(folder).expanduser().absolute()
        path.mkdir(parents=True, exist_ok=True)
        named = {"mark": asdict(self.mark), "config": self.config, "taken_at": self.taken_at}
        named |= {"policy": self.policy, "pages": self.pages, "num_parcels": len(self.parcels)}
        named["state"] = blake2b(self.portable_state).hexdigest()
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path / "pages", _tree(self.kv_pages, self.parcels), force=True)
        (path / "state").write_bytes(self.portable_state)
        (path / "snapshot.json").write_text(json.dumps(named, indent=2))

    @classmethod
    def load(cls, folder: str | Path) -> "Snapshot":
        """Reads what `save` wrote.  Raises `SnapshotMismatch` if it is none, or of another
        format."""
        path = Path(folder).expanduser().absolute()
        try:
            named = json.loads((path / "snapshot.json").read_text())
            state, mark = (path / "state").read_bytes(), named["mark"]
            found, written = blake2b(state).hexdigest(), named["state"]
        except (OSError, ValueError, KeyError) as error:
            raise SnapshotMismatch(f"{path} holds no snapshot: {error}") from error
        if mark.get("format") != FORMAT:
            raise SnapshotMismatch(
                f"{path} is a snapshot of format {mark.get('format')}, this jpaged reads {FORMAT}; "
                "take it again, or use the version that took it"
            )
        if found != written:
            raise SnapshotMismatch(f"{path / 'state'} is damaged: its digest is another one")
        with ocp.StandardCheckpointer() as checkpointer:
            try:
                tree = checkpointer.restore(path / "pages", _target(checkpointer, path / "pages"))
            except (OSError, ValueError, KeyError) as error:
                raise SnapshotMismatch(f"{path / 'pages'} cannot be read: {error}") from error
        return cls(
            mark=Mark(**mark),
            config=named["config"],
            taken_at=named["taken_at"],
            state=None,
            portable_state=state,
            policy=named["policy"],
            pages=tuple(named["pages"]),
            kv_pages=_cache(tree["cache"]),
            parcels=tuple(_cache(tree[f"parcel {i}"]) for i in range(named["num_parcels"])),
        )


def check_snapshot(snapshot: object) -> Snapshot:
    """Raises `SnapshotMismatch` for what is none."""
    if not isinstance(snapshot, Snapshot):
        raise SnapshotMismatch(
            f"a snapshot is what `engine.snapshot()` or `Snapshot.load(folder)` returns, not "
            f"{snapshot!r}"
        )
    return snapshot


def mark_of_checkpoint(folder: Path) -> str:
    """A digest of a model's configuration and of samples of its weights, read in milliseconds."""
    digest = blake2b((folder / "config.json").read_bytes(), digest_size=12)
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as opened:
            for place in range(SAMPLES):
                opened.seek(place * max(0, size - SAMPLED_BYTES) // (SAMPLES - 1))
                digest.update(opened.read(SAMPLED_BYTES))
    return digest.hexdigest()


def _tree(kv_pages: KVCache, parcels: tuple[KVCache, ...]) -> dict[str, Any]:
    """Named as on disk."""
    caches = {"cache": kv_pages} | {f"parcel {i}": kept for i, kept in enumerate(parcels)}
    return {
        name: {str(layer): each._asdict() for layer, each in enumerate(cache)}
        for name, cache in caches.items()
    }


def _target(checkpointer: ocp.StandardCheckpointer, path: Path) -> Any:
    """Arrays of the host, of the shapes that were saved."""
    metadata = checkpointer.metadata(path)
    tree = getattr(metadata, "item_metadata", metadata)
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), getattr(tree, "tree", tree))


def _cache(tree: dict[str, Any]) -> KVCache:
    return tuple(KVPages(**tree[layer]) for layer in sorted(tree, key=int))
