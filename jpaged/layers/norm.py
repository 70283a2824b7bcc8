"""Normalisation, in float32 whatever the weights are."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float


class RMSNorm(nnx.Module):
    """Scales to a root mean square of one (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float):
        self.weight = nnx.Param(jnp.ones(width))
        self.eps = eps

    def __call__(self, x: Float[jax.Array, "... E"]) -> Float[jax.Array, "... E"]:
        wide = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + self.eps)
        return self.weight[...] * (wide * scale).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Shifts to mean zero and scales to variance one (Ba et al., 2016)."""

    def __init__(self, width: int, eps: float):
        self.weight = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps

    def __call__(self, x: Float[jax.Array, "... E"]) -> Float[jax.Array, "... E"]:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(centred * centred, -1, keepdims=True) + self.eps)
        return (centred * scale).astype(x.dtype) * self.weight[...] + self.bias[...]
