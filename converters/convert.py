"""Fills an abstract tree of parameters from a checkpoint."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from converters.checkpoint import Checkpoint, CheckpointMismatch
from converters.rules import Rule, Table

Tree = dict[str, Any]  # nested dicts; leaves are arrays or jax.ShapeDtypeStruct
Put = Callable[[np.ndarray, jax.ShapeDtypeStruct], jax.Array]
MOST_NAMED = 8  # of each kind in a report


def put_on_device(tensor: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.device_put(np.ascontiguousarray(tensor.astype(like.dtype)), like.sharding)


def convert(
    checkpoint: Checkpoint,
    table: Table,
    abstract: Tree,
    put: Put = put_on_device,
    on_tensor: Callable[[int], None] = lambda num_bytes: None,
) -> Tree:
    """Streams the checkpoint into a tree like `abstract`, cast to its dtypes.

    `on_tensor(num_bytes)` hears of progress.  Raises `CheckpointMismatch` once, with every
    unmatched name, missing parameter and wrong shape.
    """
    wanted = flatten(abstract)
    filled: dict[str, jax.Array] = {}
    report = Report()
    for name, tensor in checkpoint.tensors():
        found = table.find(name)
        if found is not None:
            _place(name, tensor, *found, wanted, filled, report, put)
        elif not table.ignores(name):
            report.unmatched.append(f"{name} {tensor.shape}")
        on_tensor(tensor.nbytes)
    report.missing = [
        f"{path} {wanted[path].shape}" for path in wanted if path not in filled.keys() | report.seen
    ]
    report.raise_if_any(checkpoint)
    return unflatten(filled)


def _place(
    name: str,
    tensor: np.ndarray,
    rule: Rule,
    targets: tuple[str, ...],
    wanted: dict[str, jax.ShapeDtypeStruct],
    filled: dict[str, jax.Array],
    report: "Report",
    put: Put,
) -> None:
    parts = _parts(name, tensor, rule, report)
    if parts is None:
        report.seen.update(targets)  # they are not missing too
        return
    for path, part in zip(targets, parts, strict=True):
        like = wanted.get(path)
        if like is None:
            if not rule.optional:
                report.unmatched.append(f"{name} -> {path}, which this model lacks")
        elif part.shape != like.shape:
            report.misshapen.append(f"{path} is {part.shape}, {like.shape} expected")
            report.seen.add(path)
        else:
            filled[path] = put(part, like)


def _parts(
    name: str, tensor: np.ndarray, rule: Rule, report: "Report"
) -> tuple[np.ndarray, ...] | None:
    if not np.issubdtype(tensor.dtype, np.floating) and tensor.dtype.name != "bfloat16":
        report.misshapen.append(f"{name} is {tensor.dtype}, floating point expected")
        return None
    try:
        return rule.transform(tensor)
    except ValueError as error:  # such a shape cannot be taken apart
        report.misshapen.append(f"{name} is {tensor.shape}: {error}")
        return None


class Report:
    """Everything that does not fit, gathered before anything is raised."""

    def __init__(self):
        self.unmatched: list[str] = []
        self.missing: list[str] = []
        self.misshapen: list[str] = []
        self.seen: set[str] = set()

    def raise_if_any(self, checkpoint: Checkpoint) -> None:
        parts = [
            f"{len(found)} {what}: {_abridged(found)}"
            for what, found in (
                ("parameters are missing", self.missing),
                ("tensors are not understood", self.unmatched),
                ("tensors have another shape or type", self.misshapen),
            )
            if found
        ]
        if parts:
            raise CheckpointMismatch(
                f"{checkpoint.folder} does not fit the model in its config.json: "
                + "; ".join(parts)
            )


def _abridged(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": x}} -> {"a.b": x}"""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat.update(flatten(value, f"{path}.") if isinstance(value, dict) else {path: value})
    return flat


def unflatten(flat: dict[str, Any]) -> Tree:
    """{"a.b": x} -> {"a": {"b": x}}"""
    tree: Tree = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
