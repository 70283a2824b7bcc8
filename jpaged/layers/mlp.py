"""The feed-forward half of a block."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from jpaged.layers.linear import Linear, project, sociable

# Hugging Face's names; those that a `SociableWeight` may know are in KERNELS, by its name for them
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_fast": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
}
KERNELS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


class GatedMLP(nnx.Module):
    """down(act(gate(x)) * up(x)), as in Llama (Shazeer, "GLU Variants", 2020)."""

    def __init__(self, width: int, hidden: int, activation: str = "silu", *, bias: bool = False):
        self.gate = Linear(width, hidden, bias=bias)
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)
        self.activation = activation

    def __call__(self, x: Float[jax.Array, "T E"]) -> Float[jax.Array, "T E"]:
        return self.down(gated(x, self.gate, self.up, self.activation))


class MLP(nnx.Module):
    """down(act(up(x))), as in GPT-2 and OPT."""

    def __init__(self, width: int, hidden: int, activation: str, *, bias: bool = True):
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)
        self.activation = activation

    def __call__(self, x: Float[jax.Array, "T E"]) -> Float[jax.Array, "T E"]:
        return self.down(ACTIVATIONS[self.activation](self.up(x)))


def gated(
    x: Float[jax.Array, "T I"], gate: Linear, up: Linear, activation: str
) -> Float[jax.Array, "T O"]:
    """activation(gate(x)) * up(x)."""
    weights = sociable(gate.weight.get_value(), up.weight.get_value())
    has_bias = gate.bias is not None or up.bias is not None
    if weights and not has_bias and weights[0].gates(KERNELS.get(activation, "")):
        return weights[0].gate(weights[1], x, KERNELS[activation])
    # in float32, as the kernel does: XLA rounds bf16 after every operation, in twice the time
    left, right = (y.astype(jnp.float32) for y in project(x, gate, up))
    return (ACTIVATIONS[activation](left) * right).astype(x.dtype)
