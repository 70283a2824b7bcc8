"""Compiled steps on disk: an entry that was cut off is taken away, once, before it is read."""

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jpaged.runner.compilation_cache import drop_broken, is_whole

OPTIONS = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """JAX's own, in a folder of this test's."""
    before = {name: jax.config.values[name] for name in (*OPTIONS, "jax_compilation_cache_dir")}
    for name, value in {**OPTIONS, "jax_compilation_cache_dir": str(tmp_path)}.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_anew() -> list[str]:
    """What JAX complains of meanwhile."""
    jax.clear_caches()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert jax.jit(lambda x: 3 * x + 1)(2.0) == 7.0
    return [str(each.message) for each in caught]


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*-cache"))


def test_an_entry_that_was_cut_off_would_be_stumbled_over_at_every_start(cache: Path):
    assert compile_anew() == []
    [entry, *_] = entries(cache)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        assert "Error reading persistent compilation cache" in compile_anew()[0]

    assert drop_broken(cache) == 1

    assert compile_anew() == []
    assert is_whole(entry.read_bytes())


@pytest.mark.parametrize("left", [0, 1, 10, -1])
def test_whatever_is_missing_of_an_entry_is_seen(cache: Path, left: int):
    compile_anew()
    entry = entries(cache)[0].read_bytes()
    assert is_whole(entry)
    assert not is_whole(entry[:left])


def test_what_was_looked_at_is_not_looked_at_again(tmp_path: Path):
    assert drop_broken(tmp_path) == 0
    old, new = tmp_path / "old-cache", tmp_path / "new-cache"
    for path in (old, new):
        path.write_bytes(b"no entry")
    long_ago = time.time() - 100
    os.utime(old, (long_ago, long_ago))

    assert drop_broken(tmp_path) == 1

    assert old.exists() and not new.exists()
