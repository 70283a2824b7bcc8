"""What writes, moves and merges, against numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from journal import Case, Found
from timing import is_gpu

from pallas_kernels import gpu, kv_write, page_copy
from pallas_kernels.kv_write import triton_write
from pallas_kernels.paged_attention.merge import merge

LARGEST = {"int8": 127, "float8_e4m3fn": 448, "float8_e5m2": 57344}
PAGES = ("bfloat16", "float16", "float32", *LARGEST)


def move_cases(is_dry: bool) -> list[Case]:
    writes = [
        Case(f"kv_write {name}: {T} tokens of {D} into {pages}", partial(_write, name, T, D, pages))
        for name in kv_write.IMPLEMENTATIONS
        for T, D, pages in [(37, 80, "bfloat16"), *((300, 128, each) for each in PAGES)]
    ]
    others = [Case("page_copy: copy", _copy), Case("page_copy: to the host and back", _round_trip)]
    others += [Case("merge: with sinks and an empty part", _merge)]
    return (writes[:2] if is_dry else writes) + others


def _write(implementation: str, T: int, D: int, dtype: str) -> Found:
    K, S, P = 8, 16, 64
    rng = np.random.default_rng(0)
    k, v = (jnp.asarray(rng.normal(size=(T, K, D)), jnp.bfloat16) for _ in range(2))
    before = np.asarray(rng.normal(size=(P, K, S, D))).astype(jnp.dtype(dtype))
    slots = rng.permutation(P * S)[:T].astype(np.int32)
    slots[-5:] = P * S + 3  # padding
    scales = {}
    if dtype in LARGEST:
        scales = {"k_scale": jnp.linspace(0.01, 1, K), "v_scale": jnp.linspace(0.1, 0.2, K)}
    if implementation == "triton" and is_gpu():
        pages = jax.ShapeDtypeStruct(before.shape, before.dtype)
        if reason := triton_write.why_not(k, pages, gpu.compute_capability()):
            return Found(0, "", note=f"does not serve: {reason}")
    chosen = implementation if is_gpu() else "reference"
    note = "" if chosen == implementation else "no GPU: the reference in its place"
    write = jax.jit(partial(kv_write.write, implementation=chosen), donate_argnums=(2, 3))
    after = write(k, v, jnp.asarray(before), jnp.array(before), jnp.asarray(slots), **scales)
    wrong = 0
    for new, pages, scale in zip((k, v), after, ("k_scale", "v_scale"), strict=True):
        right = _written(np.asarray(new, np.float32), before, slots, scales.get(scale))
        wrong += _differing(np.asarray(pages), right)
    # of 8 bits: where a quotient lies between two numbers, who divides and who multiplies by the
    # inverse may round to different sides
    most = T * K * D // 500 if dtype in LARGEST else 0
    return Found(wrong, "elements differ", is_good=wrong <= most, note=note)


def _written(new: np.ndarray, before: np.ndarray, slots: np.ndarray, scale) -> np.ndarray:
    after, S = before.copy(), before.shape[2]
    if scale is not None:
        most = LARGEST[before.dtype.name]
        new = np.clip(new / np.asarray(scale)[:, None], -most, most)
        new = np.rint(new) if before.dtype == np.int8 else new
    for row, slot in zip(new, slots, strict=True):
        if slot < len(before) * S:
            after[slot // S, :, slot % S] = row.astype(before.dtype)
    return after


def _differing(a: np.ndarray, b: np.ndarray) -> int:
    """Elements whose bits differ."""
    kind = f"uint{8 * a.itemsize}"
    return int((a.view(kind) != b.view(kind)).sum())


def _pools() -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(0))
    shape = (64, 8, 16, 128)
    return {n: jax.random.normal(k, shape, jnp.bfloat16) for n, k in zip("kv", keys, strict=True)}


def _copy() -> Found:
    before = jax.tree.map(np.asarray, _pools())
    sources, targets = np.array([3, 9, 9, 0]), np.array([9, 3, 40, 64])  # the last is padding
    copy = jax.jit(page_copy.copy_pages, donate_argnums=0)
    after = copy(_pools(), jnp.asarray(sources), jnp.asarray(targets))
    right = jax.tree.map(np.copy, before)
    for name, pool in right.items():
        pool[targets[:3]] = before[name][sources[:3]]
    wrong = sum(_differing(np.asarray(after[name]), right[name]) for name in right)
    return Found(wrong, "elements differ", is_good=wrong == 0)


def _round_trip() -> Found:
    """Three pages to the host, cleared, and back."""
    pools, pages = _pools(), jnp.asarray([5, 63, 0])
    before = jax.tree.map(np.asarray, pools)
    rows = jax.device_put(jax.jit(page_copy.gather_pages)(pools, pages), jax.memory.Space.Host)
    kinds = {leaf.sharding.memory_kind for leaf in jax.tree.leaves(rows)}
    pools = jax.tree.map(lambda pool: pool.at[pages].set(0), pools)
    back = jax.device_put(rows, jax.memory.Space.Device)
    pools = jax.jit(page_copy.scatter_pages, donate_argnums=0)(pools, back, pages)
    wrong = sum(_differing(np.asarray(pools[name]), before[name]) for name in before)
    return Found(wrong, "elements differ", is_good=wrong == 0, note=f"on the host: {kinds}")


def _merge() -> Found:
    rng = np.random.default_rng(0)
    outs, lses = rng.normal(size=(3, 5, 4, 64)), 3 * rng.normal(size=(3, 5, 4))
    sinks = rng.normal(size=4)
    lses[1, 2], outs[1, 2] = -np.inf, np.nan
    weights = np.exp(lses)
    parts = np.where(weights[..., None] > 0, outs * weights[..., None], 0).sum(0)
    right = parts / (weights.sum(0) + np.exp(sinks))[..., None]
    given = (jnp.asarray(each, jnp.float32) for each in (outs, lses, sinks))
    out, _ = jax.jit(merge)(*given)
    error = float(np.abs(np.asarray(out) - right).max())
    return Found(error, "error", is_good=error < 1e-5)
