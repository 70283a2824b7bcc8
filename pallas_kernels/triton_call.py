"""Calls Triton kernels through jax-triton, whose releases differ in how they are called.

    jax-triton 0.4    wants triton 3.7; what a kernel changes in place is given as a `jax.Ref`
    jax-triton 0.3    wants triton 3.6; it is an operand and, once more, an output

Neither is imported before a kernel is called: the core does not need them.
"""

import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
from jax import Array

MISSING = "jax-triton is not installed; it comes with jpaged's extras cuda12 and cuda13"


def why_not() -> str | None:
    """Why no Triton kernel can be called here, or None if one can."""
    installed = map(importlib.util.find_spec, ("triton", "jax_triton"))
    return None if all(installed) else MISSING


def launch(
    kernel: Callable[..., None],
    *operands: Array | int,
    in_place: tuple[Array, ...] = (),
    outputs: tuple[jax.ShapeDtypeStruct, ...] = (),
    grid: tuple[int, ...],
    compute_capability: tuple[int, int],
    num_warps: int = 4,
    num_stages: int = 3,
    **constants: int | float | bool | str | None,
) -> tuple[Array, ...]:
    """Launches `kernel` and returns what it changed in place, then its outputs.

    Its parameters are the operands, the arrays changed in place, one unused parameter for each
    of these, the outputs, and the constants (all that are constexpr) by name.
    """
    major, minor = compute_capability
    call = _call_03 if version("jax-triton").startswith("0.3.") else _call_04
    options = {"grid": grid, "num_warps": num_warps, "num_stages": num_stages, **constants}
    return call(kernel, operands, in_place, outputs, 10 * major + minor, options)


def _call_04(kernel, operands, in_place, outputs, arch: int, options: dict[str, Any]):
    import jax_triton  # pyright: ignore[reportMissingImports]

    refs = tuple(map(jax.new_ref, in_place))
    unused = (0,) * len(refs)
    out = jax_triton.triton_call(
        *operands,
        *refs,
        *unused,
        kernel=kernel,
        out_type=outputs,
        compute_capability=arch,
        backend_options={"ptx_version": ptx_version(arch)},
        **options,
    )
    return (*(ref[...] for ref in refs), *out)


def _call_03(kernel, operands, in_place, outputs, arch: int, options: dict[str, Any]):
    import jax_triton  # pyright: ignore[reportMissingImports]

    # an output that aliases an operand is a parameter of its own: the unused one
    first = sum(isinstance(each, Array) for each in operands)
    aliases = {first + i: i for i in range(len(in_place))}
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in in_place]
    return tuple(
        jax_triton.triton_call(
            *operands,
            *in_place,
            kernel=kernel,
            out_shape=(*shapes, *outputs),
            compute_capability=arch,
            input_output_aliases=aliases,
            **options,
        )
    )


def ptx_version(arch: int) -> int:
    """As new as the GPU needs.  Triton writes the newest it can, which many a ptxas refuses."""
    return 87 if arch <= 100 else 88
