"""Converted weights on disk, in Orbax's format: they load in parallel and need no conversion."""

from collections.abc import Mapping
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from converters import CheckpointMismatch
from converters.convert import flatten
from jpaged.weights.functional import Params

SUBFOLDER = "orbax"  # beside config.json and the tokenizer


def has_saved(folder: Path) -> bool:
    return (folder / SUBFOLDER).is_dir()


def save(folder: Path, params: Params) -> None:
    """Writes the parameters under the folder.  What was there before is replaced."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / SUBFOLDER).absolute(), params, force=True)


def restore(folder: Path, abstract: Params) -> Params:
    """Reads them back, cast to the abstract dtypes and placed with their shardings."""
    path = (folder / SUBFOLDER).absolute()
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or sharding), abstract
    )
    with ocp.StandardCheckpointer() as checkpointer:
        _check(path, checkpointer.metadata(path), target)
        return checkpointer.restore(path, target)


def _check(path: Path, metadata: object, target: Params) -> None:
    tree = getattr(getattr(metadata, "item_metadata", metadata), "tree", None)
    if not isinstance(tree, Mapping):
        raise CheckpointMismatch(
            f"{path} holds no whole tree of parameters (was saving it interrupted?); remove it to "
            "load the folder's .safetensors, or save it again"
        )
    saved = {name: tuple(leaf.shape) for name, leaf in flatten({**tree}).items()}
    wanted = {name: leaf.shape for name, leaf in flatten(target).items()}
    wrong = sorted(
        name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name)
    )
    if wrong:
        named = [f"{n}: saved {saved.get(n)}, expected {wanted.get(n)}" for n in wrong[:8]]
        raise CheckpointMismatch(
            f"{path} does not fit the model in its config.json, {len(wrong)} parameters differ: "
            + "; ".join(named)
        )
