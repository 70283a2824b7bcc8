"""Writes a step's keys and values into their slots, in place, quantising where pages are small."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Num

from pallas_kernels.kv_write import reference, triton_write

IMPLEMENTATIONS = ("reference", "triton")
Pages = Num[Array, "P K S D"]


def write(
    k: Float[Array, "T K D"],
    v: Float[Array, "T K D"],
    k_pages: Pages,
    v_pages: Pages,
    slots: Int[Array, " T"],
    *,
    k_scale: Float[Array, " K"] | None = None,
    v_scale: Float[Array, " K"] | None = None,
    implementation: str = "reference",
) -> tuple[Pages, Pages]:
    """Puts each token's keys and values where `slots`, page · S + offset, say.

    At P · S and beyond is padding, which is written nowhere; no other slot may appear twice.
    Pages in float8 and int8 get k / k_scale of their head: rounded to the nearest, and what is too
    large for the type becomes its largest number.  Other pages take no scales.  The pages are
    written in place where the caller donates them.

    implementation: "reference" is XLA's scatter, which fuses what computes k and v into itself and
    can be part of a CUDA graph; "triton" writes 16 bytes at a time, both kinds in one launch.
    """
    k_scale, v_scale = _scale(k_scale, k_pages), _scale(v_scale, v_pages)
    match implementation:
        case "reference":
            k_pages = reference.write(k, k_pages, slots, k_scale)
            return k_pages, reference.write(v, v_pages, slots, v_scale)
        case "triton":
            return triton_write.write(k, v, k_pages, v_pages, slots, k_scale, v_scale)
    raise NotImplementedError(
        f"no kv_write implementation {implementation!r}; there are {', '.join(IMPLEMENTATIONS)}"
    )


def _scale(scale: Array | None, pages: Array) -> Array | None:
    if pages.dtype.itemsize > 1:
        assert scale is None, f"pages in {pages.dtype} take no scale"
        return None
    return jnp.ones(pages.shape[1]) if scale is None else scale


__all__ = ["IMPLEMENTATIONS", "write"]
