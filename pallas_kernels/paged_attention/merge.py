"""Merges attention over parts of a sequence: splits, a shared prefix, and sinks.

Attention over a part is known by its result and the logarithm of its softmax's denominator; what
another part adds is then a weighted mean (Dao et al., "Flash-Decoding", 2023).
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def merge(
    outs: Float[Array, "M *rows H D"],
    lses: Float[Array, "M *rows H"],
    sinks: Float[Array, " H"] | None = None,
) -> tuple[Float[Array, "*rows H D"], Float[Array, "*rows H"]]:
    """The result over all M parts, and its own log-sum-exp; a part with lse -inf counts nothing.

    `sinks` adds a logit per head to the denominator.  `outs` of a part that counts nothing may
    hold anything.  Rows without any part come back as zeros, with lse -inf or their sink.
    """
    lses = lses.astype(jnp.float32)
    peak = lses.max(0) if sinks is None else jnp.maximum(lses.max(0), sinks)
    peak = jnp.where(peak == -jnp.inf, 0, peak)  # (-inf) - (-inf) would be NaN
    weights = jnp.exp(lses - peak)
    total = weights.sum(0) + (0 if sinks is None else jnp.exp(sinks - peak))
    # 0 * NaN is NaN: what was never written must not be multiplied
    parts = jnp.where(weights[..., None] > 0, outs.astype(jnp.float32) * weights[..., None], 0)
    out = parts.sum(0) / jnp.maximum(total, 1e-30)[..., None]
    return out.astype(outs.dtype), peak + jnp.log(total)
