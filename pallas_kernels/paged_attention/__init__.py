"""Attention of a step's queries over keys and values that lie in scattered pages."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Num

from pallas_kernels import gpu, kv_write, native
from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention import reference
from pallas_kernels.paged_attention.door import check_shapes, check_table

IMPLEMENTATIONS = ("reference", "native", "mosaic", "triton")
Pages = Num[Array, "P K S D"]


def paged_attention(
    q: Float[Array, "T H D"],
    k_pages: Pages,
    v_pages: Pages,
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
    alibi: Float[Array, " H"] | None = None,
    shares_prefix: bool = False,
    implementation: str | None = None,
) -> Float[Array, "T H D"]:
    """Causal attention over a ragged batch: any mix of one-token and many-token sequences.

    A query at position p sees the positions in (p - window, p] of its sequence, or all up to p.
    `softcap` c replaces a score s by c·tanh(s/c); `alibi` then adds slope·(key's position - p)
    (Press et al., 2022); `sinks` adds a logit per head to the softmax's denominator.  Query head h
    reads kv head h // (H/K).  Rows of padding tokens come back as zeros.  Where T == B, a step of
    single tokens, the query of sequence b is token b.

    shares_prefix: reads the pages that all sequences begin with once, in a step of single tokens;
    worth a launch of its own where they often do.

    implementation: None picks the best one for platform and shapes; a name forces one and raises
    `NotImplementedError` with the reason if it cannot serve.  "native" keeps pages in an order of
    its own, and writes them itself: see `write_and_attend`.
    """
    options = _Options(scale, window, softcap, sinks, alibi)._asdict()
    check_shapes(q, k_pages, v_pages, table)
    if implementation in ("mosaic", "triton") or (implementation is None and gpu.is_gpu()):
        # a fifth of a second that a CPU need not wait for
        from pallas_kernels.paged_attention import on_gpu

        more = {"shares_prefix": shares_prefix, "implementation": implementation}
        return on_gpu.attend(q, k_pages, v_pages, table, **options, **more)
    if implementation in (None, "reference"):
        return reference.attend(q, k_pages, v_pages, table, **options)
    raise NotImplementedError(
        f"no paged_attention implementation {implementation!r} that reads pages which somebody "
        f"else has written; there are {', '.join(IMPLEMENTATIONS)}"
    )


def write_and_attend(
    q: Float[Array, "T H D"],
    k: Float[Array, "T K D"],
    v: Float[Array, "T K D"],
    k_pages: Pages,
    v_pages: Pages,
    table: PageTable,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " H"] | None = None,
    alibi: Float[Array, " H"] | None = None,
    implementation: str | None = None,
) -> tuple[Float[Array, "T H D"], Pages, Pages]:
    """Puts the step's keys and values into their slots, then attends; returns the pages too.

    See `paged_attention`.  Padding is written nowhere.  The pages are written in place where the
    caller donates them.  How a page's elements are ordered is the implementation's own affair: a
    cache belongs to the one that wrote it.
    """
    options = _Options(scale, window, softcap, sinks, alibi)
    arrays = (q, k, v, k_pages, v_pages, table)
    check_shapes(q, k_pages, v_pages, table)
    plain = partial(_write_then_attend, implementation, options)
    is_native = implementation == "native" or (implementation is None and not gpu.is_gpu())
    if not is_native:
        return plain(*arrays)
    reason = (
        "the native kernel knows no alibi" if alibi is not None else _why_not_native(q, k_pages)
    )
    if reason is not None and implementation == "native":
        raise NotImplementedError(reason)
    if reason is not None:
        return plain(*arrays)
    given = {name: value for name, value in options._asdict().items() if name != "alibi"}
    fast = partial(native.write_and_attend, **given)
    if implementation == "native":
        return fast(*arrays)
    # decided when the step is lowered: it may be for another platform than this one
    return jax.lax.platform_dependent(*arrays, cpu=fast, default=plain)


def explain(heads: int, kv_heads: int, head_dim: int, page_size: int, dtype: str) -> list[str]:
    """For people: who attends in steps of a model on the device at hand, a line for each job."""
    q = jnp.zeros((1, heads, head_dim), dtype)
    k_pages = jnp.zeros((1, kv_heads, page_size, head_dim), dtype)
    if gpu.is_gpu():
        from pallas_kernels.paged_attention.choice import KERNELS, choose

        return [f"{job}: {choose(job, q, k_pages)}" for job in KERNELS]
    reason = _why_not_native(q, k_pages)
    return ["native" if reason is None else f"reference ({reason})"]


def page_order(heads: int, kv_heads: int, head_dim: int, page_size: int, dtype: str) -> str:
    """In which order steps of such a model keep a page: "tiles" (`tiles.py`) or "plain"."""
    q = jnp.zeros((1, heads, head_dim), dtype)
    k_pages = jnp.zeros((1, kv_heads, page_size, head_dim), dtype)
    is_native = jax.default_backend() == "cpu" and _why_not_native(q, k_pages) is None
    return "tiles" if is_native else "plain"


def _why_not_native(q: Array, k_pages: Array) -> str | None:
    """Why the C++ kernel cannot serve on a CPU, or None if it can."""
    if not native.is_available():
        return f"the native kernels are not available: {native.why_not()}"
    if native.supports(q, k_pages):
        return None
    return (
        f"native paged attention takes bf16 or f32, page_size and head_dim in multiples of "
        f"{native.TILE}, head_dim up to {native.MOST_DIM} and at most {native.MOST_GROUP} "
        f"query heads a kv head, not {q.dtype}{q.shape} over {k_pages.dtype}{k_pages.shape}"
    )


class _Options(NamedTuple):
    scale: float
    window: int | None
    softcap: float | None
    sinks: Array | None
    alibi: Array | None


def _write_then_attend(
    implementation: str | None,
    options: _Options,
    q: Array,
    k: Array,
    v: Array,
    k_pages: Array,
    v_pages: Array,
    table: PageTable,
) -> tuple[Array, Array, Array]:
    # written before they are read, always: gathering first would make XLA copy all of the cache
    k_pages, v_pages = kv_write.write(k, v, k_pages, v_pages, table.write_slots)
    out = paged_attention(
        q, k_pages, v_pages, table, **options._asdict(), implementation=implementation
    )
    return out, k_pages, v_pages


__all__ = [
    "IMPLEMENTATIONS",
    "PageTable",
    "check_table",
    "explain",
    "paged_attention",
    "write_and_attend",
]
