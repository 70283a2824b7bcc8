"""Puts a model's matrices into the order in which the CPU reads them."""

import jax
import jax.numpy as jnp
from flax import nnx

from jpaged.layers.linear import Embedding, Linear
from jpaged.weights.functional import Graph, Params, merge
from jpaged.weights.packed import PackedWeight
from pallas_kernels import native

PACKABLE = (jnp.bfloat16, jnp.float32)


def pack_for_cpu(graph: Graph, params: Params) -> Params:
    """Packs every matrix the model multiplies by; the arrays given are deleted.

    Where the platform is no CPU, or has no native kernels, the parameters stay as they are.
    """
    if jax.default_backend() != "cpu" or not native.is_available():
        return params
    model = merge(graph, params)
    packed = jax.tree.map(lambda leaf: leaf, params)  # new dicts, the same arrays
    for path, module in nnx.iter_modules(model):
        if isinstance(module, Linear):
            _pack(packed, path, is_transposed=False)
        elif isinstance(module, Embedding) and path == ("embed",) and model.head is None:
            _pack(packed, path, is_transposed=True)
    return packed


def _pack(params: Params, path: tuple, is_transposed: bool) -> None:
    node = params
    for key in path:
        node = node[str(key)]
    w = node["weight"]
    if w.dtype in PACKABLE:
        node["weight"] = jax.jit(PackedWeight.of)(w.T if is_transposed else w)
        jax.block_until_ready(node["weight"])
        w.delete()
