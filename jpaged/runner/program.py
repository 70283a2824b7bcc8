"""The compiled forms of a step, one a bucket.

Everything here works on shapes: a step can be lowered, compiled and measured for a model whose
weights were never loaded.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jpaged.layers.paged import KVPages, KVSpec
from jpaged.models.base import KVCache
from jpaged.runner.letter import length, open_letter
from jpaged.runner.step import resample, score, step
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import Bucket
from jpaged.weights.functional import Graph, Params
from pallas_kernels.page_copy import copy_pages, gather_pages, scatter_pages

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
        self._previous = jax.ShapeDtypeStruct((packer.max_num_seqs,), jnp.int32)
        self._graph = graph
        self._resample = jax.jit(partial(resample, max_logprobs))
        self._gather = jax.jit(self._each_kind(gather_pages))
        self._scatter = jax.jit(self._each_kind(scatter_pages), donate_argnums=0)
        self._copy = jax.jit(self._each_kind(copy_pages), donate_argnums=0)
        self._score = jax.jit(partial(score, graph, max_logprobs))
        # GPUs would round float32 factors to TF32, and greedy tokens would no longer be exact
        self._precision = "highest" if kv_dtype == jnp.float32 else "default"

    def twin(self) -> "StepProgram":
        """The same program for other sequences: only who sits where is forgotten."""
        twin = copy.copy(self)
        twin.packer = self.packer.empty()
        return twin

    def no_tokens(self) -> jax.Array:
        """The answer of a step that never was."""
        return jnp.zeros(self.packer.max_num_seqs, jnp.int32)

    @property
    def num_pages(self) -> tuple[int, ...]:
        """Of the cache, and the places of each narrower window."""
        return self.packer.num_pages, *self.packer.windows.values()

    @property
    def kinds(self) -> tuple[int, ...]:
        """Each layer's entry in `num_pages`."""
        windows = list(self.packer.windows)
        return tuple(
            windows.index(spec.window) + 1 if spec.window in windows else 0 for spec in self.kv_spec
        )

    def kv_pages(self) -> KVCache:
        """An empty cache, one entry a layer."""
        size = (self.packer.page_size, self.kv_dtype)
        return tuple(
            KVPages.zeros(spec, self.num_pages[kind], *size)
            for spec, kind in zip(self.kv_spec, self.kinds, strict=True)
        )

    def nowhere(self, *shape: int) -> np.ndarray:
        """i32[kinds, *shape]: numbers beyond the cache, which nothing is written to."""
        count = np.array(self.num_pages, np.int32).reshape(-1, *[1] * len(shape))
        return np.broadcast_to(count, (len(count), *shape)).copy()

    def _each_kind(self, move: Callable[..., Any]) -> Callable[..., KVCache]:
        """Moves pages of every layer, by the numbers that they have there.

        The last argument is i32[kinds, ..., M]; those before it have an entry for each layer.
        """

        def moved(*arguments):
            *layers, numbers = arguments
            return tuple(
                move(*each, *jnp.atleast_2d(numbers[kind]))
                for *each, kind in zip(*layers, self.kinds, strict=True)
            )

        return moved

    def lower(self, bucket: Bucket) -> jax.stages.Lowered:
        """The step for the bucket's shapes."""
        function, arguments, options = self.step_of(bucket)
        with jax.default_matmul_precision(self._precision):
            return jax.jit(function, **options).lower(*arguments)

    def step_of(self, bucket: Bucket) -> tuple[Callable, tuple, dict[str, Any]]:
        """`step(params, kv_pages, previous, letter)`, the shapes of these, and `jit`'s options."""
        shapes = shapes_of(self.packer.blank(bucket))

        def step_of_letter(params, kv_pages, previous, letter):
            return step(self._graph, params, kv_pages, previous, open_letter(letter, shapes))

        kv_shapes = jax.eval_shape(self.kv_pages)
        letter = jax.ShapeDtypeStruct((length(shapes),), jnp.int32)
        arguments = (self.params, kv_shapes, self._previous, letter)
        # the cache is donated: its pages are written in place, never copied
        return step_of_letter, arguments, {"donate_argnums": 1}

    def lower_gather(self, num_pages: int) -> jax.stages.Lowered:
        """Pages side by side, to be sent to the host."""
        pages = jax.ShapeDtypeStruct((len(self.num_pages), num_pages), jnp.int32)
        return self._gather.lower(jax.eval_shape(self.kv_pages), pages)

    def lower_scatter(self, num_pages: int) -> jax.stages.Lowered:
        """Pages that lay side by side, back into the cache; padding goes to P."""
        pages = jax.ShapeDtypeStruct((len(self.num_pages), num_pages), jnp.int32)
        kv_shapes = jax.eval_shape(self.kv_pages)
        rows = jax.eval_shape(self._gather, kv_shapes, pages)
        return self._scatter.lower(kv_shapes, rows, pages)

    def lower_copy(self, num_copies: int) -> jax.stages.Lowered:
        """Copies of pages within the cache, (from, to) in i32[kinds, 2, M]; padding goes to P.

        Not a part of the step: few steps copy, and for those that do not it would be work.
        """
        pairs = jax.ShapeDtypeStruct((len(self.num_pages), 2, num_copies), jnp.int32)
        return self._copy.lower(jax.eval_shape(self.kv_pages), pairs)

    def lower_resample(self, num_sequences: int) -> jax.stages.Lowered:
        """For the logits of that many rows."""
        logits = jax.ShapeDtypeStruct((num_sequences, self.packer.vocab), jnp.float32)
        inputs = shapes_of(self.packer.sampling.blank(num_sequences))
        return self._resample.lower(logits, self._previous, inputs)

    def lower_score(self) -> jax.stages.Lowered:
        smallest = Bucket(2, 2, 1)
        kv_shapes = jax.eval_shape(self.kv_pages)
        inputs = shapes_of(self.packer.blank(smallest))
        run = partial(step, self._graph)
        _, answer = jax.eval_shape(run, self.params, kv_shapes, self._previous, inputs)
        hidden = answer.hidden
        rows = jax.ShapeDtypeStruct((SCORED_ROWS, hidden.shape[1]), hidden.dtype)
        tokens = jax.ShapeDtypeStruct((SCORED_ROWS,), np.int32)
        with jax.default_matmul_precision(self._precision):
            return self._score.lower(self.params, rows, tokens)
