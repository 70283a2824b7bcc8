"""The cache is as large as was planned, and a step writes it in place."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jpaged.config import EngineConfig
from jpaged.engine.build import plan_sizes
from jpaged.errors import ConfigError
from jpaged.layers.paged import KVSpec
from jpaged.models.hf_config import HFConfig
from jpaged.models.loading import read_model
from jpaged.runner.memory import CPU_MOST, CacheBytes, bytes_per_page, plan_pages
from jpaged.runner.program import StepProgram
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import Bucket
from jpaged.weights.functional import num_bytes

CONFIG = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PAGE_SIZE, MAX_LEN = 16, 64
SMALL, LARGE = 512, 16 * 512
DECODE, MIXED = Bucket(2, 2, 4), Bucket(16, 2, 4)


@functools.cache
def compiled_memory(bucket: Bucket, num_pages: int) -> tuple:
    """What XLA sets aside for a step, and the bytes of the cache."""
    model = read_model(HFConfig(CONFIG))
    packer = StepPacker(num_pages, PAGE_SIZE, model.vocab, MAX_LEN, max_num_seqs=2)
    program = StepProgram(model.graph, model.params, model.kv_spec, packer, model.dtype, 5)
    stats = program.lower(bucket).compile().memory_analysis()
    return stats, num_pages * bytes_per_page(model.kv_spec, PAGE_SIZE, model.dtype)


def plan(page_bytes: int = 1000, wanted_pages: int = 50, windows=(), **sizes) -> int:
    unset = {"num_pages": None, "kv_cache_memory_bytes": None, "gpu_memory_utilization": 0.9}
    unset["weight_bytes"] = 0
    return plan_pages(CacheBytes(page_bytes, windows), wanted_pages, **{**unset, **sizes})


class Device:
    """A device with 10,000 bytes, of which another program's 2,000 are in use."""

    def memory_stats(self) -> dict[str, int]:
        return {"bytes_limit": 10_000, "bytes_in_use": 2_000}


@pytest.mark.parametrize("bucket", [DECODE, MIXED], ids=["decode", "mixed"])
def test_a_step_writes_the_cache_in_place(bucket: Bucket):
    stats, pool = compiled_memory(bucket, LARGE)

    assert stats.alias_size_in_bytes >= pool
    # the cache goes in once, and nothing like it is made beside
    assert stats.argument_size_in_bytes < 1.2 * pool
    assert stats.output_size_in_bytes < 1.2 * pool
    assert stats.temp_size_in_bytes < pool / 50


@pytest.mark.parametrize("bucket", [DECODE, MIXED], ids=["decode", "mixed"])
def test_a_step_needs_no_more_memory_for_a_larger_cache(bucket: Bucket):
    (small, small_pool), (large, large_pool) = (compiled_memory(bucket, n) for n in (SMALL, LARGE))

    assert large_pool == 16 * small_pool
    assert large.temp_size_in_bytes == small.temp_size_in_bytes


def test_the_planned_bytes_are_those_of_the_cache():
    model = read_model(HFConfig(CONFIG), "bfloat16")
    packer = StepPacker(SMALL, PAGE_SIZE, model.vocab, MAX_LEN, max_num_seqs=2)
    program = StepProgram(model.graph, model.params, model.kv_spec, packer, model.dtype, 5)

    leaves = jax.tree.leaves(jax.eval_shape(program.kv_pages))

    planned = SMALL * bytes_per_page(model.kv_spec, PAGE_SIZE, model.dtype)
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) == planned


def test_a_page_holds_keys_and_values_of_every_layer():
    spec = (KVSpec(kv_heads=2, head_dim=8), KVSpec(kv_heads=1, head_dim=4))

    # (2·8 + 1·4) numbers a token, twice, of two bytes, for 16 tokens
    assert bytes_per_page(spec, 16, jnp.dtype("bfloat16")) == 20 * 2 * 2 * 16


def test_a_demanded_number_of_pages_is_taken():
    assert plan(num_pages=7) == 7
    assert plan(num_pages=7_000_000, wanted_pages=1) == 7_000_000


@pytest.mark.parametrize("num_bytes, expected", [(1000, 1), (1999, 1), (2000, 2), (99_000, 99)])
def test_demanded_bytes_are_filled_with_whole_pages(num_bytes: int, expected: int):
    assert plan(kv_cache_memory_bytes=num_bytes) == expected


def test_too_few_bytes_are_refused_with_the_numbers():
    with pytest.raises(ConfigError, match=r"kv_cache_memory_bytes=999 .* 1000 bytes"):
        plan(kv_cache_memory_bytes=999)


@pytest.mark.parametrize(
    "num_bytes, expected",
    # 10 places of 500 bytes: up to 10 pages take 1,500 each, those beyond 1,000
    [(1_500, 1), (14_999, 9), (15_000, 10), (15_999, 10), (16_000, 11), (25_000, 20)],
)
def test_what_layers_with_a_window_do_not_take_is_left_for_pages(num_bytes: int, expected: int):
    assert plan(kv_cache_memory_bytes=num_bytes, windows=((10, 500),)) == expected


def test_a_first_page_has_a_place_too():
    with pytest.raises(ConfigError, match=r"hold no page of 1500 bytes"):
        plan(kv_cache_memory_bytes=1_499, windows=((10, 500),))


def test_a_device_gives_its_share_less_what_is_in_use(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device()])

    assert plan(gpu_memory_utilization=0.9) == 7  # 9,000 - 2,000
    assert plan(gpu_memory_utilization=0.9, wanted_pages=5) == 5


def test_weights_that_are_yet_to_come_are_left_room(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device()])

    assert plan(weight_bytes=3_000) == 4  # 9,000 - 2,000 - 3,000
    # who names a size has thought of the weights
    assert plan(weight_bytes=3_000, kv_cache_memory_bytes=9_000) == 9


def test_an_engine_plans_its_cache_beside_its_weights(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    model = read_model(HFConfig(CONFIG))
    page_bytes = bytes_per_page(model.kv_spec, PAGE_SIZE, model.dtype)
    room = num_bytes(model.params) + 3 * page_bytes
    monkeypatch.setattr(
        Device, "memory_stats", lambda self: {"bytes_limit": room, "bytes_in_use": 0}
    )

    sizes = plan_sizes(EngineConfig("tiny", gpu_memory_utilization=1.0), model)

    assert sizes.num_pages == 3


def test_a_device_that_is_full_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device()])

    with pytest.raises(ConfigError, match=r"-1000 free bytes .* 1000 bytes"):
        plan(gpu_memory_utilization=0.1)


def test_a_host_gives_a_modest_share():
    assert 1 <= plan(wanted_pages=1 << 60) <= CPU_MOST // 1000
    assert plan(wanted_pages=3) == 3
