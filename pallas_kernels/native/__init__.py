"""Kernels for the CPU in C++, called from compiled steps through XLA's FFI.

They are built on first use with the system's compiler and kept in the user's cache.  Nothing
requires them: where they cannot be had, plain XLA serves.
"""

from pallas_kernels.native.build import NativeUnavailable, is_available, why_not
from pallas_kernels.native.calls import (
    MOST_DIM,
    MOST_GROUP,
    packed_matmul,
    paged_attention,
    supports,
)

__all__ = [
    "MOST_DIM",
    "MOST_GROUP",
    "NativeUnavailable",
    "is_available",
    "packed_matmul",
    "paged_attention",
    "supports",
    "why_not",
]
