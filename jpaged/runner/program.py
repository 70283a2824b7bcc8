"""The compiled forms of a step, one a bucket.

Everything here works on shapes: a step can be lowered, compiled and measured for a model whose
weights were never loaded.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jpaged.layers.paged import KVPages, KVSpec
from jpaged.models.base import KVCache
from jpaged.runner.step import score, step
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import Bucket
from jpaged.weights.functional import Graph, Params

SCORED_ROWS = 64  # prompt positions scored in one call


def shapes_of(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


class StepProgram:
    """Lowers `step` for a bucket, and `score` once.

    params: the model's parameters or their shapes.
    """

    def __init__(
        self,
        graph: Graph,
        params: Params,
        kv_spec: tuple[KVSpec, ...],
        packer: StepPacker,
        kv_dtype: jnp.dtype,
        max_logprobs: int,
    ):
        self.params = shapes_of(params)
        self.kv_spec, self.kv_dtype, self.packer = kv_spec, kv_dtype, packer
        # the cache is donated: its pages are written in place, never copied
        self._step = jax.jit(partial(step, graph, max_logprobs), donate_argnums=1)
        self._score = jax.jit(partial(score, graph, max_logprobs))
        # GPUs would round float32 factors to TF32, and greedy tokens would no longer be exact
        self._precision = "highest" if kv_dtype == jnp.float32 else "default"

    def kv_pages(self) -> KVCache:
        """An empty cache, one entry a layer."""
        size = (self.packer.num_pages, self.packer.page_size, self.kv_dtype)
        return tuple(KVPages.zeros(spec, *size) for spec in self.kv_spec)

    def lower(self, bucket: Bucket) -> jax.stages.Lowered:
        kv_shapes = jax.eval_shape(self.kv_pages)
        inputs = shapes_of(self.packer.blank(bucket))
        with jax.default_matmul_precision(self._precision):
            return self._step.lower(self.params, kv_shapes, inputs)

    def lower_score(self) -> jax.stages.Lowered:
        smallest = Bucket(2, 2, 1)
        kv_shapes = jax.eval_shape(self.kv_pages)
        inputs = shapes_of(self.packer.blank(smallest))
        hidden = jax.eval_shape(self._step, self.params, kv_shapes, inputs)[2]
        rows = jax.ShapeDtypeStruct((SCORED_ROWS, hidden.shape[1]), hidden.dtype)
        tokens = jax.ShapeDtypeStruct((SCORED_ROWS,), np.int32)
        with jax.default_matmul_precision(self._precision):
            return self._score.lower(self.params, rows, tokens)
