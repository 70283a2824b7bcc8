"""The Mosaic decode kernel, compiled for real GPUs at real models' shapes (`aot.py`).

Layouts, tiles, shared memory and registers are checked here.  `pytest -s` prints the table.
"""

import math

import jax
import jax.numpy as jnp
import pytest
from aot import TARGETS, CompilationFailed, compile_for, needs_aot

from pallas_kernels.paged_attention.decode_plan import Gpu, Plan, plan_for
from pallas_kernels.paged_attention.mosaic_decode import decode

pytestmark = needs_aot

MODELS = {  # query heads, kv heads, head dim
    "Llama-3.1-8B": (32, 8, 128),
    "Qwen3-0.6B": (16, 8, 128),
    "OPT-125m": (12, 12, 64),
    "Gemma-2-9B": (16, 8, 256),
    "Phi-3-mini": (32, 32, 96),
    "StableLM-3B": (32, 32, 80),
    "Falcon-7B": (71, 1, 64),
    "MQA": (32, 1, 128),
}
# a row of 160 bytes is no multiple of four warps' copies; two tiles of D = 256 are 128 KiB
REFUSED = {
    ("StableLM-3B", "a100"): "16 x 160 bytes cannot be shared out",
    ("StableLM-3B", "l40s"): "16 x 160 bytes cannot be shared out",
    ("Gemma-2-9B", "l40s"): "more than 101376 bytes",
}


def case(
    model: str = "Llama-3.1-8B",
    page_size: int = 16,
    dtype: str = "bfloat16",
    page_dtype: str = "bfloat16",
    window: int | None = None,
    softcap: float | None = None,
    with_alibi: bool = False,
    with_first: bool = False,
    num_splits: int | None = None,
):
    """A step of 64 sequences of up to 4096 tokens, over a pool of 65536."""
    (H, K, D), B = MODELS[model], 64
    array = jax.ShapeDtypeStruct
    pages = array((65536 // page_size, K, page_size, D), page_dtype)
    arrays = (
        array((B, H, D), dtype),
        *(pages, pages),
        array((B, 4096 // page_size), "int32"),
        array((B,), "int32"),
        array((H,), "float32") if with_alibi else None,
        array((B,), "int32") if with_first else None,
    )
    options = {"window": window, "softcap": softcap, "num_splits": num_splits}

    def step(q, k_pages, v_pages, pages, lengths, alibi, first):
        more = {"alibi": alibi, "first": first, **options}
        return decode(q, k_pages, v_pages, pages, lengths, scale=D**-0.5, **more)

    return step, arrays, {}


def blocks_per_sm(
    gpu: Gpu,
    model: str = "Llama-3.1-8B",
    page_size: int = 16,
    dtype: str = "bfloat16",
    page_dtype: str = "bfloat16",
    **_: object,
) -> int:
    """As many blocks of the case as its plan has an SM hold at a time."""
    H, K, D = MODELS[model]
    plan = plan_for(jnp.zeros((1, H, D), dtype), jnp.zeros((1, K, page_size, D), page_dtype), gpu)
    assert isinstance(plan, Plan)
    return plan.blocks_per_sm


def check(target: str, **params) -> None:
    report = compile_for(target, "test_mosaic_decode_compiled:case", **params)
    (kernel,) = report.kernels
    wished = " ".join(f"{key}={params[key]}" for key in params)
    print(
        f"\n{target:5} {wished:60} {kernel.registers:4} registers "
        f"{kernel.shared_bytes:7} bytes shared {report.temp_bytes / 2**20:6.1f} MiB temporary",
        end="",
    )
    assert report.spilled_bytes == 0
    gpu = Gpu(TARGETS[target].compute_capability, shared_bytes=TARGETS[target].shared_kib * 1024)
    registers = math.ceil(kernel.registers / 8) * 8 * 128
    assert blocks_per_sm(gpu, **params) * registers <= 65536
    assert kernel.shared_bytes <= TARGETS[target].shared_kib * 1024
    # the pool is 256 MiB in most cases: no copy of it is among what is temporary
    assert report.temp_bytes < 64 * 2**20


slow = pytest.mark.slow  # a kernel takes a second or two, a GPU's first one five
QUICK = ("Llama-3.1-8B", "OPT-125m")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "model", [name if name in QUICK else pytest.param(name, marks=slow) for name in MODELS]
)
def test_it_compiles_without_spills_at_real_shapes(model, target):
    if (model, target) in REFUSED:
        with pytest.raises(CompilationFailed, match=REFUSED[model, target]):
            check(target, model=model)
    else:
        check(target, model=model)


@pytest.mark.parametrize("target", ["a100", "h200"])
@pytest.mark.parametrize("page_size", [8, pytest.param(32, marks=slow), 64, 128])
def test_it_compiles_for_all_page_sizes(page_size, target):
    check(target, page_size=page_size)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "page_dtype", ["int8", "float8_e4m3fn", pytest.param("float8_e5m2", marks=slow)]
)
def test_it_converts_pages_in_registers(page_dtype, target):
    if page_dtype != "int8" and target == "a100":
        with pytest.raises(CompilationFailed, match="from sm_89 on, not on sm_80"):
            check(target, page_dtype=page_dtype)
    else:
        check(target, page_dtype=page_dtype)


@pytest.mark.parametrize("target", ["a100", "h200"])
@pytest.mark.parametrize("page_size", [16, 128])
def test_all_options_compile_together(page_size, target):
    options = {"window": 1024, "softcap": 50.0, "with_alibi": True, "with_first": True}

    check(target, dtype="float16", page_dtype="float16", page_size=page_size, **options)


def test_a_single_split_is_written_as_it_is():
    """Without partial results in float32, that is."""
    report = compile_for("h200", "test_mosaic_decode_compiled:case", num_splits=1)

    assert report.temp_bytes < 8 * 2**20


@pytest.mark.parametrize("target", TARGETS)
def test_a_gpu_is_known_by_its_compute_capability(target):
    """What `why_not` takes for granted is what the GPU that is compiled for says of itself."""
    known = TARGETS[target]

    assert Gpu.of(known.compute_capability).shared_bytes == known.shared_kib * 1024
