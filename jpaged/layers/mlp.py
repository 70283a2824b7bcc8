"""The feed-forward half of a block."""

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jaxtyping import Float

from jpaged.layers.linear import Linear

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_fast": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
}


class GatedMLP(nnx.Module):
    """down(act(gate(x)) * up(x)), as in Llama (Shazeer, "GLU Variants", 2020)."""

    def __init__(self, width: int, hidden: int, activation: str = "silu", *, bias: bool = False):
        self.gate = Linear(width, hidden, bias=bias)
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)
        self.activation = activation

    def __call__(self, x: Float[jax.Array, "T E"]) -> Float[jax.Array, "T E"]:
        return self.down(ACTIVATIONS[self.activation](self.gate(x)) * self.up(x))


class MLP(nnx.Module):
    """down(act(up(x))), as in GPT-2 and OPT."""

    def __init__(self, width: int, hidden: int, activation: str, *, bias: bool = True):
        self.up = Linear(width, hidden, bias=bias)
        self.down = Linear(hidden, width, bias=bias)
        self.activation = activation

    def __call__(self, x: Float[jax.Array, "T E"]) -> Float[jax.Array, "T E"]:
        return self.down(ACTIVATIONS[self.activation](self.up(x)))
