"""Every attention kernel under one signature, and what stands in for it where there is no GPU.

attend(q, k_pages, v_pages, table, scale=.., window=.., softcap=.., alibi=..) -> out, lse or None
"""

from collections.abc import Callable
from functools import partial

import jax
from jax.experimental.pallas import mosaic_gpu as plgpu
from timing import is_gpu

from pallas_kernels import gpu
from pallas_kernels import paged_attention as package
from pallas_kernels.paged_attention import mosaic_decode, mosaic_prefill, reference, triton_ragged

NAMES = ("mosaic decode", "mosaic prefill", "triton ragged", "chosen", "reference")
INTERPRETED = "in the interpreter"
REPLACED = "no GPU: the reference in its place"


def kernel(name: str, interpreted: bool = False) -> tuple[Callable, str]:
    """The kernel, and what is to be said about it: how it ran if not on a GPU."""
    if name == "reference":
        return _reference, "" if is_gpu() else "on the CPU"
    if is_gpu():
        return _KERNELS[name], ""
    if interpreted and name.startswith("mosaic"):
        return partial(_KERNELS[name], interpret=plgpu.InterpretGPUParams()), INTERPRETED
    return _reference, REPLACED


def why_not(name: str, q: jax.Array, k_pages: jax.Array) -> str | None:
    """Why the kernel cannot serve these shapes here."""
    modules = {
        "mosaic decode": mosaic_decode,
        "mosaic prefill": mosaic_prefill,
        "triton ragged": triton_ragged,
    }
    if name not in modules or not is_gpu():
        return None
    return modules[name].why_not(q, k_pages, gpu.compute_capability())


def _reference(q, k_pages, v_pages, table, **options):
    """XLA's; products of float32 are to be ones, not TF32's."""
    with jax.default_matmul_precision("highest"):
        return reference.attend(q, k_pages, v_pages, table, **options), None


def _decode(q, k_pages, v_pages, table, **options):
    return mosaic_decode.decode(q, k_pages, v_pages, table.pages, table.lengths, **options)


def _chosen(q, k_pages, v_pages, table, **options):
    """What the package picks by itself."""
    return package.paged_attention(q, k_pages, v_pages, table, **options), None


_KERNELS = {
    "mosaic decode": _decode,
    "mosaic prefill": mosaic_prefill.prefill,
    "triton ragged": triton_ragged.ragged,
    "chosen": _chosen,
}
