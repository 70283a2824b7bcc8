"""From a row of logits and one random number to a token."""

import jax
from jaxtyping import Float, Int

from pallas_kernels import native
from pallas_kernels.token_choice.reference import choose, draw, greedy

IMPLEMENTATIONS = ("reference", "native")


def choose_tokens(
    logits: Float[jax.Array, "B V"],
    u: Float[jax.Array, " B"],
    temperature: Float[jax.Array, " B"],
    top_k: Int[jax.Array, " B"],
    top_p: Float[jax.Array, " B"],
    min_p: Float[jax.Array, " B"],
    *,
    implementation: str | None = None,
) -> Int[jax.Array, " B"]:
    """The token at which the cumulative distribution passes u in [0, 1); the largest's, where
    temperature is 0.

    The distribution is the softmax of f32 logits / temperature, of which top-k, then top-p, then
    min-p each keep what is likely (`filters.py`); top_k < 1 keeps all.  Implementations may
    differ where u falls on the edge between two tokens, to a rounding error.

    implementation: None picks the best one; a name forces one and raises `NotImplementedError`
    if it cannot serve.
    """
    arrays = (logits, u, temperature, top_k, top_p, min_p)
    match implementation:
        case "reference":
            return choose(*arrays)
        case "native" if native.is_available():
            return native.choose_tokens(*arrays)
        case "native":
            raise NotImplementedError(f"the native kernels are not available: {native.why_not()}")
        case None if native.is_available():
            # decided when the step is lowered: it may be for another platform than this one
            return jax.lax.platform_dependent(*arrays, cpu=native.choose_tokens, default=choose)
        case None:
            return choose(*arrays)
    raise NotImplementedError(
        f"no choose_tokens implementation {implementation!r}; there are "
        f"{', '.join(IMPLEMENTATIONS)}"
    )


__all__ = ["IMPLEMENTATIONS", "choose_tokens", "draw", "greedy"]
