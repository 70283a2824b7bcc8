"""How many pages fit."""

import os
from bisect import bisect_right
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jpaged.errors import ConfigError
from jpaged.layers.paged import KVSpec

CPU_SHARE = 0.25  # of free memory: a notebook's host has other things to do
CPU_MOST = 4 << 30  # bytes


def bytes_per_page(kv_spec: tuple[KVSpec, ...], page_size: int, dtype: jnp.dtype) -> int:
    return page_size * sum(spec.bytes_per_token(dtype) for spec in kv_spec)


@dataclass(frozen=True)
class CacheBytes:
    """Bytes of a cache of so many pages: what a page takes in the layers that keep all of them, and
    of each narrower window the most places, and what one takes."""

    page: int
    windows: tuple[tuple[int, int], ...] = ()

    def __call__(self, num_pages: int) -> int:
        narrower = sum(min(num_pages, most) * size for most, size in self.windows)
        return num_pages * self.page + narrower

    def num_fitting(self, room: int) -> int:
        """The most pages that fit."""
        return bisect_right(range(1, room // max(1, self.page) + 1), room, key=self)


def plan_pages(
    cache_bytes: CacheBytes,
    wanted_pages: int,
    *,
    num_pages: int | None,
    kv_cache_memory_bytes: int | None,
    gpu_memory_utilization: float,
    weight_bytes: int,
) -> int:
    """The number of pages: as asked for, or as many as the memory holds.

    wanted_pages: more than these would never be used (all seats at full length); a chosen size
    stops there, a demanded one does not.  weight_bytes: the model's, which is not loaded yet.
    """
    if num_pages is not None:
        return num_pages
    if kv_cache_memory_bytes is not None:
        fitting = cache_bytes.num_fitting(kv_cache_memory_bytes)
        source = f"kv_cache_memory_bytes={kv_cache_memory_bytes}"
    else:
        room = _room(gpu_memory_utilization, weight_bytes)
        fitting = min(cache_bytes.num_fitting(room), wanted_pages)
        source = f"{room} free bytes"
    if fitting < 1:
        raise ConfigError(f"{source} hold no page of {cache_bytes(1)} bytes; give it more memory")
    return int(fitting)


def plan_host_pages(page_bytes: int, num_pages: int | None, swap_space: float) -> int:
    """Pages of preempted sequences that the host takes: so many, or `swap_space` GiB of them.

    Raises `ConfigError` if the host has not so much memory free.
    """
    count = int(swap_space * 2**30) // page_bytes if num_pages is None else num_pages
    if swap_space and not count:
        raise ConfigError(
            f"swap_space={swap_space} GiB hold no page of {page_bytes} bytes; raise it, or set "
            "num_host_pages"
        )
    free = _free_host_bytes()
    if count * page_bytes > free:
        raise ConfigError(
            f"{count} pages of {page_bytes} bytes on the host take {count * page_bytes} bytes, "
            f"{free} are free; lower swap_space or num_host_pages"
        )
    return count


def _room(utilization: float, weight_bytes: int) -> int:
    """Bytes the cache may take on the device beside the weights to come."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] * utilization - stats["bytes_in_use"]) - weight_bytes
    return int(min((_free_host_bytes() - weight_bytes) * CPU_SHARE, CPU_MOST))


def free_bytes() -> int:
    """On the device that holds the cache."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    return _free_host_bytes()


def _free_host_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class MemoryReport:
    """Where an engine's memory is, in bytes.

    temporary: the most that any compiled step sets aside while it runs, its answer included;
    `num_steps` of all `num_step_shapes` are compiled so far.  host_pages: of the preempted, on
    the host.
    """

    weights: int
    kv_pages: int
    num_pages: int
    page: int
    temporary: int
    num_steps: int
    num_step_shapes: int
    host_pages: int
    free: int

    def __str__(self) -> str:
        rows = (
            ("weights", self.weights, ""),
            ("KV pages", self.kv_pages, f"{self.num_pages} of {self.page:,} bytes"),
            (
                "largest step",
                self.temporary,
                f"{self.num_steps} of {self.num_step_shapes} step shapes compiled",
            ),
            ("on the host", self.host_pages, "pages swapped out"),
            ("free", self.free, ""),
        )
        lines = [
            f"{name:12} {size / 2**20:10,.1f} MiB   {note}".rstrip() for name, size, note in rows
        ]
        return "\n".join(lines)
