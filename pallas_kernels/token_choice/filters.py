"""Top-k, top-p and min-p without sorting.

All three keep the logits above a threshold.  The threshold is found by bisection over the bit
patterns of floats, which order as integers do: 32 passes over the row give it exactly, where
sorting a vocabulary takes several times as long.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, UInt32

Logits = Float[jax.Array, "B V"]
Keys = UInt32[jax.Array, "B V"]
Threshold = UInt32[jax.Array, "B 1"]


def order_key(x: jax.Array) -> jax.Array:
    """u32 keys that compare as the floats do (negative ones have all their bits flipped)."""
    sign = jnp.uint32(1 << 31)
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    bits = jnp.where(bits == sign, 0, bits)  # -0.0 equals 0.0
    return jnp.where(bits & sign, ~bits, bits | sign)


def smallest_threshold(holds: Callable[[Threshold], jax.Array], num_rows: int) -> Threshold:
    """The least u32 per row for which `holds`, which must stay true once it is."""

    def settle_bit(i, threshold):
        bit = jnp.uint32(1 << 31) >> i.astype(jnp.uint32)
        # if the largest value with this bit clear already holds, the bit stays clear
        return jnp.where(holds(threshold | (bit - 1)), threshold, threshold | bit)

    return jax.lax.fori_loop(0, 32, settle_bit, jnp.zeros((num_rows, 1), jnp.uint32))


def keep_top_k(logits: Logits, k: jax.Array) -> Logits:
    """Keeps the k largest of each row, and what ties with the last; k < 1 keeps all."""
    keys = order_key(logits)
    k = jnp.where(k < 1, logits.shape[1], jnp.minimum(k, logits.shape[1]))[:, None]
    # a key is among the k largest iff fewer than k are greater
    threshold = smallest_threshold(
        lambda t: jnp.sum(keys > t, axis=-1, keepdims=True) < k, logits.shape[0]
    )
    return jnp.where(keys >= threshold, logits, -jnp.inf)


def keep_top_p(logits: Logits, p: jax.Array) -> Logits:
    """Keeps the fewest likeliest tokens whose probabilities reach p (Holtzman et al., 2020), and
    what ties with the last."""
    keys, probs = order_key(logits), jax.nn.softmax(logits, axis=-1)
    threshold = smallest_threshold(
        lambda t: jnp.sum(jnp.where(keys > t, probs, 0), axis=-1, keepdims=True) < p[:, None],
        logits.shape[0],
    )
    # p = 1 keeps all, whatever the sum's rounding says
    return jnp.where((keys >= threshold) | (p >= 1)[:, None], logits, -jnp.inf)


def keep_min_p(logits: Logits, min_p: jax.Array) -> Logits:
    """Keeps tokens at least min_p times as likely as the likeliest (Nguyen et al., 2024)."""
    probs = jax.nn.softmax(logits, axis=-1)
    floor = min_p[:, None] * probs.max(axis=-1, keepdims=True)
    return jnp.where(probs >= floor, logits, -jnp.inf)


def keep_likely(logits: Logits, top_k: jax.Array, top_p: jax.Array, min_p: jax.Array) -> Logits:
    """All three, in Hugging Face's order: each sees what the one before left over."""
    return keep_min_p(keep_top_p(keep_top_k(logits, top_k), top_p), min_p)
