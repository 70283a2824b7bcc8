"""Whole steps of real models, compiled for a GPU that is not here: what would run there.

No weights are allocated.  `pytest -s` prints the table.
"""

import re
from collections import Counter

import jax.numpy as jnp
import pytest
from aot import Report, compile_for, needs_aot
from test_real_shapes import REAL

from jpaged.models.hf_config import HFConfig
from jpaged.models.loading import read_model
from jpaged.runner.memory import bytes_per_page
from jpaged.runner.program import StepProgram
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import Bucket

NUM_PAGES, PAGE_SIZE, MAX_LEN, SEATS = 16384, 16, 8192, 256
BUCKETS = {"decode": Bucket(256, 256, 512), "mixed": Bucket(2048, 256, 512)}
MOST_TEMPORARY = 1 << 30
CALL = re.compile(r'custom_call_target="([^"]*(?:mosaic_gpu|triton)[^"]*)"')


def step_case(name: str, kind: str):
    model = read_model(HFConfig(REAL[name] | {"torch_dtype": "bfloat16"}))
    packer = StepPacker(NUM_PAGES, PAGE_SIZE, model.vocab, MAX_LEN, SEATS)
    dtype = jnp.dtype(jnp.bfloat16)
    program = StepProgram(model.graph, model.params, model.kv_spec, packer, dtype, 20)
    return program.step_of(BUCKETS[kind])


def pool_bytes(name: str) -> int:
    model = read_model(HFConfig(REAL[name] | {"torch_dtype": "bfloat16"}))
    return NUM_PAGES * bytes_per_page(model.kv_spec, PAGE_SIZE, jnp.dtype(jnp.bfloat16))


def num_layers(name: str) -> int:
    return REAL[name]["num_hidden_layers"]


def describe(name: str, kind: str, report: Report) -> str:
    found = Counter((k.registers, k.shared_bytes >> 10, k.spill_stores) for k in report.kernels)
    kernels = ", ".join("{} registers, {} KiB, {} spilled".format(*kernel) for kernel in found)
    return (
        f"{name} {kind}: {report.argument_bytes / 2**30:.1f} GiB in, "
        f"{report.temp_bytes / 2**20:.0f} MiB temporary, "
        f"{report.alias_bytes / 2**30:.1f} GiB in place, {report.num_graphs} CUDA graphs; {kernels}"
    )


@needs_aot
@pytest.mark.parametrize("kind", BUCKETS)
@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Qwen3-0.6B", "OPT-125m"])
def test_a_step_on_an_h200_runs_the_kernels_and_copies_no_cache(name, kind):
    case = "test_steps_on_gpus:step_case"
    report = compile_for("h200", case, with_hlo=True, name=name, kind=kind)
    print(f"\n{describe(name, kind, report)}")

    assert report.alias_bytes >= pool_bytes(name)
    assert report.temp_bytes < MOST_TEMPORARY
    assert report.hlo is not None
    calls = CALL.findall(report.hlo)
    assert len(calls) == num_layers(name) * (1 if kind == "decode" else 2)
    # jaxlib 0.11 leaves the kernels out of the graphs: one in front of each, and a few at the end
    assert num_layers(name) < report.num_graphs <= len(calls) + 12
