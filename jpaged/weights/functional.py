"""The only door between Flax modules and plain dicts of arrays.

Modules are notation: they are built abstractly, taken apart once, and put together again inside
the traced step.  What is stored, donated and passed around is a dict.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

Params = dict[str, Any]  # nested; leaves are arrays (or ShapeDtypeStructs when abstract)
Graph = Any  # nnx.GraphDef: the structure, hashable
M = TypeVar("M")


def abstract_model[M](build: Callable[[], M], dtype: jnp.dtype) -> tuple[Graph, Params]:
    """A model's structure and the shapes of its parameters; allocates nothing."""
    graph, state = nnx.split(nnx.eval_shape(build))
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype), _rekeyed(nnx.to_pure_dict(state), str)
    )
    return graph, shapes


def merge(graph: Graph, params: Params) -> Any:
    """The module with these parameters, for use inside a traced function."""
    state = _rekeyed(params, lambda key: int(key) if key.isdigit() else key)
    # a leaf is what is no dict: an array, or a weight that is a small tree of its own
    is_leaf = lambda node: not isinstance(node, dict)  # noqa: E731
    return nnx.merge(graph, nnx.State(jax.tree.map(nnx.Param, state, is_leaf=is_leaf)))


def _rekeyed(tree: Any, rename: Callable[[Any], Any]) -> Any:
    """Flax numbers a list's items; our dicts, and orbax's, have text keys only."""
    if not isinstance(tree, dict):
        return tree
    return {rename(key): _rekeyed(value, rename) for key, value in tree.items()}


def num_parameters(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def num_bytes(params: Params) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
