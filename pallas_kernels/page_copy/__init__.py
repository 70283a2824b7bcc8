"""Moves whole pages: for copy-on-write, and out of the cache and back.

Pools are any tree of arrays that begin with the axis P, all layers' keys and values at once: a
page has the same number in each.  XLA serves here on every platform, and a kernel of our own would
win little: a copy is one gather for all pools of a shape and a scatter each, in 8-byte words, of
a few pages that stay in the L2 cache in between; and to the host, the copy engine moves what a
gather has put side by side, while the GPU computes.

    save       rows = jax.device_put(gather_pages(pools, pages), jax.memory.Space.Host)
    restore    pools = scatter_pages(pools, jax.device_put(rows, jax.memory.Space.Device), pages)
"""

from pallas_kernels.page_copy.reference import copy_pages, gather_pages, scatter_pages

__all__ = ["copy_pages", "gather_pages", "scatter_pages"]
