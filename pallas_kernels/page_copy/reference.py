"""Moving pages in plain XLA."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int, Num, PyTree

Pools = PyTree[Num[Array, "P ..."]]
Rows = PyTree[Num[Array, "M ..."]]


def copy_pages(pools: Pools, sources: Int[Array, " M"], targets: Int[Array, " M"]) -> Pools:
    """Copies page sources[i] to targets[i]; all are read before any is written.

    No target may appear twice, but for those at P and beyond: padding, copied nowhere.  The pools
    are changed in place where the caller donates them.
    """
    return scatter_pages(pools, gather_pages(pools, sources), targets)


def gather_pages(pools: Pools, pages: Int[Array, " M"]) -> Rows:
    """The pages side by side; at P and beyond is padding, and comes back as the last page."""
    return jax.tree.map(lambda pool: pool.at[pages].get(mode="clip"), pools)


def scatter_pages(pools: Pools, rows: Rows, pages: Int[Array, " M"]) -> Pools:
    """Undoes `gather_pages`, into other pages if you like."""

    def put(pool: Array, rows: Array) -> Array:
        # padding repeats one page, and must be as unique as we promise
        page = jnp.where(pages < len(pool), pages, len(pool) + jnp.arange(len(pages)))
        # where indices may repeat, XLA:GPU compares and swaps 4 bytes for each element of 1 or 2
        return pool.at[page].set(rows.astype(pool.dtype), mode="drop", unique_indices=True)

    return jax.tree.map(put, pools, rows)
