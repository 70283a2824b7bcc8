"""The harness of `aot.py`, with the smallest kernels of both kinds."""

import functools

import jax
import jax.numpy as jnp
import pytest
from aot import TARGETS, CompilationFailed, compile_for, needs_aot
from jax.experimental.pallas import mosaic_gpu as plgpu

pytestmark = needs_aot


def mosaic_case(num_stages: int):
    """Doubles [128, 64] floats by way of shared memory."""

    def double(x_ref, y_ref, scratch, barrier):
        plgpu.copy_gmem_to_smem(x_ref, scratch.at[0], barrier)
        plgpu.barrier_wait(barrier)
        y_ref[...] = scratch[0] * 2

    x = jax.ShapeDtypeStruct((128, 64), jnp.float32)
    kernel = plgpu.kernel(
        double,
        out_type=x,
        scratch_types=[plgpu.SMEM((num_stages, 128, 64), jnp.float32), plgpu.Barrier()],
    )
    return kernel, (x,), {}


def triton_case(arch: int):
    import jax_triton
    import triton
    import triton.language as tl

    @triton.jit
    def double(x, y, SIZE: tl.constexpr):
        at = tl.arange(0, SIZE)
        tl.store(y + at, tl.load(x + at) * 2)

    x = jax.ShapeDtypeStruct((128,), jnp.float32)
    call = functools.partial(
        jax_triton.triton_call,
        kernel=double,
        out_shape=x,
        grid=1,
        compute_capability=arch,
        backend_options={"ptx_version": 90},  # ptxas of CUDA 13.0 knows no later one
        SIZE=128,
    )
    return call, (x,), {}


def scatter_case(donate: bool):
    pages = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    row = jax.ShapeDtypeStruct((1024,), jnp.float32)
    options = {"donate_argnums": 0} if donate else {}
    return lambda pages, row: pages.at[7].set(row), (pages, row), options


def aborting_case():
    import os

    os.abort()


@pytest.mark.parametrize("num_stages", [1, 2])
def test_a_mosaic_kernel_is_reported(num_stages):
    report = compile_for("h200", "test_aot:mosaic_case", num_stages=num_stages)

    (kernel,) = report.kernels
    assert 0 < kernel.registers <= 255 and report.spilled_bytes == 0
    assert kernel.shared_bytes >= num_stages * 128 * 64 * 4


def test_a_kernel_that_was_compiled_before_is_reported_again():
    compile_for("h200", "test_aot:mosaic_case", num_stages=1)

    again = compile_for("h200", "test_aot:mosaic_case", num_stages=1, with_hlo=True)

    assert again.hlo is not None and "mosaic_gpu" in again.hlo
    assert len(again.kernels) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_triton_kernel_is_reported(target):
    pytest.importorskip("jax_triton")

    report = compile_for(target, "test_aot:triton_case", arch=TARGETS[target].arch)

    (kernel,) = report.kernels
    assert kernel.name == "double" and 0 < kernel.registers < 64


def test_what_is_written_in_place_is_told_from_what_is_copied():
    in_place = compile_for("a100", "test_aot:scatter_case", donate=True)
    copied = compile_for("a100", "test_aot:scatter_case", donate=False)

    assert in_place.alias_bytes == in_place.output_bytes == 4 * 1024 * 1024
    assert copied.alias_bytes == 0


def test_a_refused_case_says_why_and_the_next_one_compiles():
    with pytest.raises(CompilationFailed, match="smem_bytes"):
        compile_for("h200", "test_aot:mosaic_case", num_stages=8)
    with pytest.raises(CompilationFailed):
        compile_for("h200", "test_aot:aborting_case")

    assert compile_for("h200", "test_aot:mosaic_case", num_stages=3).kernels
