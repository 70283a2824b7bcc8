"""Kernels for the CPU in C++, called from compiled steps through XLA's FFI.

They are built on first use with the system's compiler and kept in the user's cache.  Nothing
requires them: where they cannot be had, plain XLA serves.
"""

from pallas_kernels.native.build import NativeUnavailable, is_available, why_not
from pallas_kernels.native.calls import (
    MOST_DIM,
    MOST_GROUP,
    MOST_PRODUCTS,
    TILE,
    choose_tokens,
    gated_matmul,
    packed_matmuls,
    supports,
    write_and_attend,
)

__all__ = [
    "MOST_DIM",
    "MOST_GROUP",
    "MOST_PRODUCTS",
    "TILE",
    "NativeUnavailable",
    "choose_tokens",
    "gated_matmul",
    "is_available",
    "packed_matmuls",
    "supports",
    "why_not",
    "write_and_attend",
]
