"""Attention of a step's queries over keys and values that lie in scattered pages."""

from functools import partial

import jax
from jax import Array
from jaxtyping import Float

from pallas_kernels import native
from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.reference import reference

IMPLEMENTATIONS = ("reference", "native")


def paged_attention(
    q: Float[Array, "T H D"],
    k_pages: Float[Array, "P K S D"],
    v_pages: Float[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
    implementation: str | None = None,
) -> Float[Array, "T H D"]:
    """Causal attention over a ragged batch: any mix of one-token and many-token sequences.

    Keys and values of the step's own tokens must already be in the pages.  A query at position p
    sees the positions in (p - window, p] of its sequence, or all up to p.  `softcap` c replaces
    a score s by c·tanh(s/c); `sinks` adds a logit per head to the softmax's denominator.
    Query head h reads kv head h // (H/K).  Rows of padding tokens come back as zeros.

    implementation: None picks the best one for platform and shapes; a name forces one and raises
    `NotImplementedError` if it cannot serve.
    """
    options = {"scale": scale, "window": window, "softcap": softcap, "sinks": sinks}
    plain, fast = partial(reference, **options), partial(native.paged_attention, **options)
    match implementation:
        case "reference":
            return plain(q, k_pages, v_pages, table)
        case "native":
            _require_native(q, k_pages)
            return fast(q, k_pages, v_pages, table)
        case None if native.supports(q, k_pages) and native.is_available():
            # decided when the step is lowered: it may be for another platform than this one
            return jax.lax.platform_dependent(q, k_pages, v_pages, table, cpu=fast, default=plain)
        case None:
            return plain(q, k_pages, v_pages, table)
    raise NotImplementedError(
        f"no paged_attention implementation {implementation!r}; "
        f"there are {', '.join(IMPLEMENTATIONS)}"
    )


def _require_native(q: Array, k_pages: Array) -> None:
    if not native.is_available():
        raise NotImplementedError(f"the native kernels are not available: {native.why_not()}")
    if not native.supports(q, k_pages):
        raise NotImplementedError(
            f"native paged_attention takes bf16 or f32, head_dim up to {native.MOST_DIM} and at "
            f"most {native.MOST_GROUP} query heads a kv head, not {q.dtype}{q.shape} over "
            f"{k_pages.dtype}{k_pages.shape}"
        )


__all__ = ["IMPLEMENTATIONS", "PageTable", "paged_attention"]
