"""The C++ kernels' own exponential far from zero, where it could overflow, by way of a gate."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from pallas_kernels.packed_matmul import gated_matmul, pack

FAR = [5, 8, 9, 10, 10.04, 10.1, 10.5, 11, 12, 20, 40, 44, 60, 88, 88.5, 89, 100, 500, 1e4]


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_far_from_zero_a_gate_is_open_or_shut(activation):
    x = np.array([[sign * size] for size in FAR for sign in (1, -1)], np.float32)
    one = pack(jnp.ones((1, 1)))

    y = gated_matmul(jnp.asarray(x), one, one, 1, activation)

    wide = np.float64(x)
    # (1 + tanh z) / 2 is the logistic function of 2z
    slope = wide if activation == "silu" else np.sqrt(8 / np.pi) * (wide + 0.044715 * wide**3)
    np.testing.assert_allclose(y, expit(slope) * wide * wide, rtol=1e-5, atol=1e-4)
