"""Attention on a GPU, put together from kernels.

a step of single tokens      the decode kernel
any other step               the prompts' kernel, which skips single tokens, beside the decode
                             kernel, which serves them: each does what it is good at
pages that all share         read once for all queries, and merged with each one's own
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Num

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention import mosaic_decode, mosaic_prefill, reference, triton_ragged
from pallas_kernels.paged_attention.choice import PROMPTS, SINGLE, choose
from pallas_kernels.paged_attention.merge import merge

Part = tuple[Float[Array, "T H D"], Float[Array, "T H"]]  # a result and its log-sum-exp


@partial(jax.jit, static_argnames=("window", "softcap", "scale", "shares_prefix", "implementation"))
def attend(
    q: Float[Array, "T H D"],
    k_pages: Num[Array, "P K S D"],
    v_pages: Num[Array, "P K S D"],
    table: PageTable,
    *,
    sinks: Float[Array, " H"] | None = None,
    shares_prefix: bool = False,
    implementation: str | None = None,
    **options,
) -> Float[Array, "T H D"]:
    """See `paged_attention`.  Where T == B, every sequence has one query at most.

    Jitted, so that a model's layers, all alike, are traced and lowered once.
    """
    arrays = (q, k_pages, v_pages, table)
    is_single = len(q) == len(table.lengths)
    single = choose(SINGLE, q, k_pages, implementation).name
    prompts = single if is_single else choose(PROMPTS, q, k_pages, implementation).name
    if "reference" in (single, prompts):
        return reference.attend(*arrays, sinks=sinks, **options)
    if shares_prefix and single == "mosaic" and is_single and options.get("window") is None:
        parts = _with_shared_prefix(*arrays, **options)
    elif is_single:
        parts = [_single_tokens(single, *arrays, **options)]
    elif single == prompts == "triton":
        parts = [triton_ragged.ragged(*arrays, **options)]
    else:
        parts = [_mixed(single, prompts, *arrays, **options)]
    if sinks is None and len(parts) == 1:
        return parts[0][0]
    outs, lses = map(jnp.stack, zip(*parts, strict=True))
    return merge(outs, lses, sinks)[0]


def _single_tokens(name: str, q: Array, k_pages: Array, v_pages: Array, table, **options) -> Part:
    if name == "mosaic":
        lengths = table.lengths
        return mosaic_decode.decode(q, k_pages, v_pages, table.pages, lengths, **options)
    return triton_ragged.ragged(q, k_pages, v_pages, table, **options)


def _mixed(
    single: str, prompts: str, q: Array, k_pages: Array, v_pages: Array, table, **options
) -> Part:
    """Each sequence in the kernel for its kind; the other leaves its rows alone."""
    kernel = _prompts_kernel(prompts)
    out, lse = kernel(q, k_pages, v_pages, table, least_queries=2, **options)
    row = table.query_starts[:-1]
    is_single = jnp.diff(table.query_starts) == 1
    alone = _alone(table, is_single)
    some = q.at[row].get(mode="clip")
    out_1, lse_1 = _single_tokens(single, some, k_pages, v_pages, alone, **options)
    row = jnp.where(is_single, row, len(q) + jnp.arange(len(row)))  # unique, the dropped ones too
    put = {"mode": "drop", "unique_indices": True}
    return out.at[row].set(out_1, **put), lse.at[row].set(lse_1, **put)


def _alone(table: PageTable, is_single: Array) -> PageTable:
    """The table of a step of only those sequences, one token each; the others are padding."""
    positions = table.positions.at[table.query_starts[:-1]].get(mode="clip")
    starts = jnp.arange(len(is_single) + 1, dtype=jnp.int32)
    lengths = jnp.where(is_single, table.lengths, 0)
    return PageTable(positions, positions, starts, table.pages, lengths)


def _with_shared_prefix(q: Array, k_pages: Array, v_pages: Array, table, **options) -> list[Part]:
    """The pages that all begin with, seen by everybody as a single sequence's, and the rest."""
    S = k_pages.shape[2]
    num_shared = reference.num_shared_pages(table, S) * S
    some = jnp.argmax(table.lengths > 0)
    num_queries = table.query_starts[-1]
    together = PageTable(
        table.positions,
        table.write_slots,
        jnp.stack([0, num_queries]).astype(jnp.int32),
        table.pages[some][None],
        num_shared[None].astype(jnp.int32),
    )
    prompts = choose(PROMPTS, q, k_pages).name
    shared = _prompts_kernel(prompts)(q, k_pages, v_pages, together, causal=False, **options)
    first = jnp.full_like(table.lengths, num_shared)
    lengths = table.lengths
    own = mosaic_decode.decode(q, k_pages, v_pages, table.pages, lengths, first=first, **options)
    return [shared, own]


def _prompts_kernel(name: str) -> Callable[..., Part]:
    return mosaic_prefill.prefill if name == "mosaic" else triton_ragged.ragged
