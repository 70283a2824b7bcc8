"""Attention of a step's queries over keys and values that lie in scattered pages."""

from functools import partial

import jax
from jax import Array
from jaxtyping import Float

from pallas_kernels import native
from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.reference import attend, write

IMPLEMENTATIONS = ("reference", "native")


def write_and_attend(
    q: Float[Array, "T H D"],
    k: Float[Array, "T K D"],
    v: Float[Array, "T K D"],
    k_pages: Float[Array, "P K S D"],
    v_pages: Float[Array, "P K S D"],
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
    implementation: str | None = None,
) -> tuple[Float[Array, "T H D"], Float[Array, "P K S D"], Float[Array, "P K S D"]]:
    """Puts the step's keys and values into their slots, then attends; returns the pages too.

    Causal attention over a ragged batch: any mix of one-token and many-token sequences.  A query
    at position p sees the positions in (p - window, p] of its sequence, or all up to p.
    `softcap` c replaces a score s by c·tanh(s/c); `sinks` adds a logit per head to the softmax's
    denominator.  Query head h reads kv head h // (H/K).  Rows of padding tokens come back as
    zeros, and are written nowhere.  The pages are written in place where the caller donates them.

    implementation: None picks the best one for platform and shapes; a name forces one and raises
    `NotImplementedError` if it cannot serve.  How a page's elements are ordered is the
    implementation's own affair: a cache belongs to the one that wrote it.
    """
    options = {"scale": scale, "window": window, "softcap": softcap, "sinks": sinks}
    plain, fast = partial(_reference, **options), partial(native.write_and_attend, **options)
    arrays = (q, k, v, k_pages, v_pages, table)
    match implementation:
        case "reference":
            return plain(*arrays)
        case "native":
            _require_native(q, k_pages)
            return fast(*arrays)
        case None if native.supports(q, k_pages) and native.is_available():
            # decided when the step is lowered: it may be for another platform than this one
            return jax.lax.platform_dependent(*arrays, cpu=fast, default=plain)
        case None:
            return plain(*arrays)
    raise NotImplementedError(
        f"no paged_attention implementation {implementation!r}; "
        f"there are {', '.join(IMPLEMENTATIONS)}"
    )


def _reference(q, k, v, k_pages, v_pages, table, **options):
    # written before they are read, always: gathering first would make XLA copy all of the cache
    k_pages, v_pages = write(k, k_pages, table), write(v, v_pages, table)
    return attend(q, k_pages, v_pages, table, **options), k_pages, v_pages


def _require_native(q: Array, k_pages: Array) -> None:
    if not native.is_available():
        raise NotImplementedError(f"the native kernels are not available: {native.why_not()}")
    if not native.supports(q, k_pages):
        raise NotImplementedError(
            f"native paged attention takes bf16 or f32, page_size and head_dim in multiples of "
            f"{native.TILE}, head_dim up to {native.MOST_DIM} and at most {native.MOST_GROUP} "
            f"query heads a kv head, not {q.dtype}{q.shape} over {k_pages.dtype}{k_pages.shape}"
        )


__all__ = ["IMPLEMENTATIONS", "PageTable", "write_and_attend"]
