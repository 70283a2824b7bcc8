"""The Mosaic prompt kernel, compiled for Hopper at real models' shapes (`aot.py`).

Layouts, shared memory and registers are checked here.  `pytest -s` prints the table.
"""

import jax
import pytest
from aot import TARGETS, CompilationFailed, compile_for, needs_aot

from pallas_kernels.page_table import PageTable
from pallas_kernels.paged_attention.mosaic_prefill import prefill

pytestmark = needs_aot

MODELS = {  # query heads, kv heads, head dim
    "Llama-3.1-8B": (32, 8, 128),
    "OPT-125m": (12, 12, 64),
    "Gemma-2-9B": (16, 8, 256),
    "Phi-3-mini": (32, 32, 96),
    "StableLM-3B": (32, 32, 80),
    "Falcon-7B": (71, 1, 64),
    "MQA": (64, 1, 128),
}
QUICK = ("Llama-3.1-8B", "OPT-125m", "Gemma-2-9B")
# Some scalars, outside of the loop over whole tiles: in it there is not one access to local memory.
MOST_SPILLED = 32


def case(
    model: str = "Llama-3.1-8B",
    page_size: int = 16,
    dtype: str = "bfloat16",
    window: int | None = None,
    softcap: float | None = None,
    with_alibi: bool = False,
    causal: bool = True,
    least_queries: int = 1,
):
    """A step of 8192 tokens of 64 sequences, over a pool of 65536 tokens."""
    (H, K, D), T, B = MODELS[model], 8192, 64
    array = jax.ShapeDtypeStruct
    pages = array((65536 // page_size, K, page_size, D), dtype)
    shapes = ((T,), (T,), (B + 1,), (B, 8192 // page_size), (B,))
    fields = [array(shape, "int32") for shape in shapes]
    table = PageTable(*fields)  # pyright: ignore[reportArgumentType]
    alibi = array((H,), "float32") if with_alibi else None
    options = {"window": window, "softcap": softcap, "causal": causal}
    options["least_queries"] = least_queries

    def step(q, k_pages, v_pages, table, alibi):
        return prefill(q, k_pages, v_pages, table, scale=D**-0.5, alibi=alibi, **options)

    return step, (array((T, H, D), dtype), pages, pages, table, alibi), {}


def check(**params) -> None:
    report = compile_for("h200", "test_mosaic_prefill_compiled:case", **params)
    (kernel,) = report.kernels
    wished = " ".join(f"{key}={params[key]}" for key in params)
    print(
        f"\n{wished:60} {kernel.registers:4} registers, {report.spilled_bytes} bytes spilled, "
        f"{kernel.shared_bytes:7} bytes shared, {report.temp_bytes / 2**20:.1f} MiB temporary",
        end="",
    )
    # what 384 threads begin with; the roles then exchange them
    assert kernel.registers == 168
    assert report.spilled_bytes <= MOST_SPILLED
    assert kernel.shared_bytes <= TARGETS["h200"].shared_kib * 1024
    # lse is 2 MiB, and twice that for tiles that may be partly empty; q, k and v are not copied
    assert report.temp_bytes < 16 * 2**20


@pytest.mark.parametrize(
    "model",
    [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MODELS],
)
def test_it_compiles_at_real_shapes(model):
    check(model=model)


@pytest.mark.parametrize("page_size", [8, pytest.param(32, marks=pytest.mark.slow), 128])
def test_it_compiles_for_all_page_sizes(page_size):
    check(page_size=page_size)


def test_it_compiles_where_pages_are_larger_than_tiles():
    check(model="Gemma-2-9B", page_size=128, softcap=50.0, window=4096)


def test_all_options_compile_together():
    check(dtype="float16", window=1024, softcap=50.0, with_alibi=True)


def test_it_compiles_for_a_cascade():
    check(causal=False, least_queries=2)


@pytest.mark.parametrize("target", ["a100", "b200"])
def test_other_gpus_refuse_it(target):
    with pytest.raises(CompilationFailed):
        compile_for(target, "test_mosaic_prefill_compiled:case")
