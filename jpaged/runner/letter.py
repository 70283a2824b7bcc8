"""A step's input as one array of numbers: handing an array to a device costs more than its bytes.

seal     StepInput of numpy arrays  ─►  i32[n]        on the host
open     i32[n]                     ─►  StepInput     in the compiled step, which knows the shapes
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Int


def seal(inputs: Any) -> np.ndarray:
    """A tree of arrays of 32 bits, or of bools, one after another."""
    return np.concatenate([_as_ints(leaf) for leaf in jax.tree.leaves(inputs)])


def open_letter(letter: Int[jax.Array, " n"], shapes: Any) -> Any:
    """The tree that was sealed.  shapes: the same tree of shapes and types."""
    leaves, tree = jax.tree.flatten(shapes)
    starts = np.cumsum([0, *(math.prod(leaf.shape) for leaf in leaves)])
    pieces = [letter[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]
    return tree.unflatten(
        [_as_type(piece, leaf) for piece, leaf in zip(pieces, leaves, strict=True)]
    )


def length(shapes: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def _as_ints(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf).reshape(-1)
    return array.astype(np.int32) if array.dtype == bool else array.view(np.int32)


def _as_type(piece: jax.Array, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    array = piece.reshape(leaf.shape)
    return (
        array != 0 if leaf.dtype == bool else lax.bitcast_convert_type(array, jnp.dtype(leaf.dtype))
    )
