"""Moving whole pages, against indexing in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aot import compile_for, needs_aot

from pallas_kernels.page_copy import copy_pages, gather_pages, scatter_pages

P = 9


def random_pools() -> dict[str, np.ndarray]:
    """Pools of several shapes and types that share page numbers."""
    rng = np.random.default_rng(0)
    return {
        "k": rng.normal(size=(P, 2, 8, 16)).astype(np.float32),
        "v": rng.normal(size=(P, 2, 8, 16)).astype(jnp.bfloat16),
        "scales": rng.integers(-128, 128, size=(P, 3), dtype=np.int8),
    }


def on_device(pools: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(pool) for name, pool in pools.items()}


def assert_equal(actual: dict[str, jax.Array], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(actual[name]), array)


def test_pages_are_copied_in_every_pool():
    pools = random_pools()

    after = copy_pages(on_device(pools), jnp.array([3, 3, 0]), jnp.array([1, 8, 5]))

    assert_equal(after, {name: pool[[0, 3, 2, 3, 4, 0, 6, 7, 3]] for name, pool in pools.items()})


def test_pages_that_are_source_and_target_are_read_before_they_are_written():
    pools = random_pools()

    after = copy_pages(on_device(pools), jnp.array([1, 2, 3]), jnp.array([2, 3, 1]))

    assert_equal(after, {name: pool[[0, 3, 1, 2, 4, 5, 6, 7, 8]] for name, pool in pools.items()})


def test_padding_is_copied_nowhere():
    pools = random_pools()

    after = copy_pages(on_device(pools), jnp.array([4, 0, 0]), jnp.array([7, P, P]))

    assert_equal(after, {name: pool[[0, 1, 2, 3, 4, 5, 6, 4, 8]] for name, pool in pools.items()})


def test_pages_come_back_to_other_places_from_the_hosts_memory():
    pools = on_device(random_pools())
    pages, places = jnp.array([5, 0, P]), jnp.array([2, 7, P])

    rows = jax.device_put(gather_pages(pools, pages), jax.memory.Space.Host)
    empty = jax.tree.map(jnp.zeros_like, pools)
    after = scatter_pages(empty, jax.device_put(rows, jax.memory.Space.Device), places)

    for name, pool in random_pools().items():
        expected = np.zeros_like(pool)
        expected[[2, 7]] = pool[[5, 0]]
        np.testing.assert_array_equal(np.asarray(after[name]), expected)


@needs_aot
@pytest.mark.parametrize("case", ["page_copy_case", "page_restore_case"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_donated_pools_are_not_copied_on_a_gpu(case, dtype):
    report = compile_for("h200", f"triton_cases:{case}", num_pages=16, dtype=dtype)

    page = 8 * 16 * 128 * jnp.dtype(dtype).itemsize
    assert report.alias_bytes == 4 * 4096 * page
    assert report.temp_bytes <= 4 * 16 * page + 4096  # no more than the pages on their way
