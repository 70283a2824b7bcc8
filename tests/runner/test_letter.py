"""A step's input survives being sealed into one array of numbers, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np

from jpaged.runner.letter import length, open_letter, seal
from jpaged.runner.program import shapes_of
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import Bucket


def test_what_is_sealed_is_what_is_opened():
    rng = np.random.default_rng(0)
    blank = StepPacker(64, 16, 500, 64, max_num_seqs=8).blank(Bucket(16, 8, 4))

    def noise(leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.dtype == bool:
            return np.array(True)
        return rng.integers(0, 2**32, leaf.shape, np.uint32).view(leaf.dtype).reshape(leaf.shape)

    inputs = jax.tree.map(noise, blank)
    shapes = shapes_of(blank)

    opened = jax.jit(lambda letter: open_letter(letter, shapes))(seal(inputs))

    assert length(shapes) == len(seal(inputs))
    assert jax.tree.structure(opened) == jax.tree.structure(inputs)
    for found, given in zip(jax.tree.leaves(opened), jax.tree.leaves(inputs), strict=True):
        assert found.dtype == given.dtype and found.shape == given.shape
        assert np.asarray(found).tobytes() == np.asarray(given).tobytes()
    assert opened.draw.is_random.dtype == jnp.bool_
