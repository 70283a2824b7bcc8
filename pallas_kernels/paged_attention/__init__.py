"""Attention of a step's queries over keys and values that lie in scattered pages."""

from jax import Array
from jaxtyping import Float

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.reference import reference

IMPLEMENTATIONS = ("reference",)


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
    if implementation not in (None, *IMPLEMENTATIONS):
        raise NotImplementedError(
            f"no paged_attention implementation {implementation!r}; "
            f"there are {', '.join(IMPLEMENTATIONS)}"
        )
    return reference(
        q, k_pages, v_pages, table, scale=scale, window=window, softcap=softcap, sinks=sinks
    )


__all__ = ["IMPLEMENTATIONS", "PageTable", "paged_attention"]
