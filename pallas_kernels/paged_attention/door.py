"""What no implementation could make sense of is refused before one is asked."""

import numpy as np
from jax import Array

from pallas_kernels.page_table import PageTable


def check_shapes(q: Array, k_pages: Array, v_pages: Array, table: PageTable) -> None:
    """Raises `ValueError` with the numbers, where shapes or types do not fit together."""
    (T, H, D), (K, width) = q.shape, (k_pages.shape[1], k_pages.shape[3])
    if k_pages.shape != v_pages.shape or k_pages.dtype != v_pages.dtype:
        raise ValueError(
            f"keys lie in {k_pages.dtype}{k_pages.shape}, values in {v_pages.dtype}{v_pages.shape};"
            " they must be alike"
        )
    if D != width or H % K:
        raise ValueError(
            f"{H} query heads of width {D} over {K} kv heads of width {width}: the widths must be "
            "equal, and query heads come in whole groups"
        )
    if T != len(table.positions):
        raise ValueError(f"{T} queries, but the table has {len(table.positions)} tokens")


def check_table(table: PageTable, num_pages: int) -> None:
    """Raises `ValueError` where a table of plain numbers names a page that is not there.

    A kernel on a GPU would read, or write, somebody else's memory.
    """
    pages = np.asarray(table.pages)
    wrong = (pages < 0) | (pages >= num_pages)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"page {pages[row, column]} in row {row}, column {column} of the table; "
            f"there are pages 0 to {num_pages - 1}"
        )
