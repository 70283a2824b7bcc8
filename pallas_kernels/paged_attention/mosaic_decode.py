"""Attention of one query a sequence over its pages, in Pallas's Mosaic GPU dialect.

Each block of threads takes one kv head of a sequence, or one split of its keys
(`mosaic_decode_block`); what it takes at a time, and how many splits there are, is planned from
shapes and the GPU (`decode_plan`); splits are merged (`merge`; Dao et al., "Flash-Decoding",
2023).  Pages in another type than q's, as fp8 and int8 ones, are converted in registers.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Float, Int, Shaped

from pallas_kernels.gpu import OLDEST
from pallas_kernels.paged_attention.decode_plan import (
    Gpu,
    Plan,
    choose_splits,
    current_gpu,
    heads_of_a_block,
    plan_for,
)
from pallas_kernels.paged_attention.merge import merge
from pallas_kernels.paged_attention.mosaic_decode_block import LOG2E, Block

DIMS = (64, 80, 96, 128, 256)
PAGE_SIZES = (8, 16, 32, 64, 128)
PAGE_TYPES = ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2", "int8")


def why_not(q: Array, k_pages: Array, compute_capability: tuple[int, int]) -> str | None:
    """Why these shapes and types cannot be served on that GPU, or None if they can."""
    H, D = q.shape[-2:]
    K, S = k_pages.shape[1:3]
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"mosaic decode multiplies bfloat16 or float16 queries, not {q.dtype}"
    if k_pages.dtype.name not in PAGE_TYPES:
        return f"mosaic decode reads pages of {', '.join(PAGE_TYPES)}, not {k_pages.dtype}"
    if D not in DIMS or S not in PAGE_SIZES or H % K:
        return (
            f"mosaic decode has head_dim in {DIMS}, page_size in {PAGE_SIZES} and whole groups of "
            f"query heads, not head_dim {D}, page_size {S}, {H} heads over {K}"
        )
    arch = "sm_{}{}".format(*compute_capability)
    if compute_capability < OLDEST:
        return f"mosaic decode needs sm_80 or newer, not {arch}"
    if k_pages.dtype.name.startswith("float8") and compute_capability < (8, 9):
        return f"mosaic decode converts fp8 pages from sm_89 on, not on {arch}"
    plan = plan_for(q, k_pages, Gpu.of(compute_capability))
    return f"mosaic decode: {plan}" if isinstance(plan, str) else None


def decode(
    q: Float[Array, "B H D"],
    k_pages: Shaped[Array, "P K S D"],
    v_pages: Shaped[Array, "P K S D"],
    pages: Int[Array, "B N"],
    lengths: Int[Array, " B"],
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    alibi: Float[Array, " H"] | None = None,
    first: Int[Array, " B"] | None = None,
    num_splits: int | None = None,
    interpret: plgpu.InterpretGPUParams | None = None,
) -> tuple[Float[Array, "B H D"], Float[Array, "B H"]]:
    """Attends from position lengths - 1 of each sequence; returns lse too, as `merge` takes it.

    Keys before `first` are left out, as is what `window` hides.
    A sequence of length 0, or with no key left, gives zeros and lse -inf.
    """
    (B, H, D), (K, S) = q.shape, k_pages.shape[1:3]
    gpu = current_gpu()
    if reason := why_not(q, k_pages, gpu.compute_capability):
        raise NotImplementedError(reason)
    plan = plan_for(q, k_pages, gpu)
    assert isinstance(plan, Plan), plan
    heads = _Heads(K, H // K, heads_of_a_block(q, k_pages), plan.heads)
    width = pages.shape[1] * S if window is None else window
    splits = num_splits or choose_splits(B * heads.num_blocks, width, plan, gpu)
    is_fp8 = k_pages.dtype.name.startswith("float8")
    dtype = jnp.dtype(jnp.float16) if is_fp8 else q.dtype
    options = (scale, window, softcap, alibi is not None)
    block = Block(plan, dtype, gpu.has_tma, *options, splits, heads.parts, interpret is not None)
    starts = jnp.zeros_like(lengths) if first is None else first
    slopes = () if alibi is None else (heads.grouped(alibi * LOG2E, 0),)
    # as the tensor cores leave it: heads last
    out_type = q.dtype if splits == 1 else jnp.float32
    shape = (splits, B, heads.num_blocks, plan.heads)
    out, lse = plgpu.kernel(
        block.run,
        out_type=[
            jax.ShapeDtypeStruct((*shape[:3], D, plan.heads), out_type),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        ],
        scratch_types=block.scratch(k_pages),
        grid=(heads.num_blocks, B, splits),
        grid_names=("h", "b", "s"),
        compiler_params=plgpu.CompilerParams(approx_math=True, unsafe_no_auto_barriers=True),
        interpret=interpret,
    )(heads.grouped(q, 1), k_pages, v_pages, pages, lengths, starts, *slopes)
    out, lse = heads.flat(out.swapaxes(3, 4), 2), heads.flat(lse, 2)
    if splits == 1:
        return out[0], lse[0]
    out, lse = merge(out, lse)
    return out.astype(q.dtype), lse


@dataclass(frozen=True)
class _Heads:
    """K groups of query heads, each cut into parts for one block, padded to whole columns."""

    num_groups: int
    group: int
    part: int
    padded: int

    @property
    def parts(self) -> int:
        return -(-self.group // self.part)

    @property
    def num_blocks(self) -> int:
        return self.num_groups * self.parts

    def grouped(self, x: Array, axis: int) -> Array:
        """[.., H, ..] becomes [.., num_blocks, padded, ..]."""
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        x = x.reshape(*before, self.num_groups, self.group, *after)
        x = _padded(x, axis + 1, self.parts * self.part)
        x = x.reshape(*before, self.num_blocks, self.part, *after)
        return _padded(x, axis + 1, self.padded)

    def flat(self, x: Array, axis: int) -> Array:
        """Undoes `grouped`."""
        before, after = x.shape[:axis], x.shape[axis + 2 :]
        x = lax.slice_in_dim(x, 0, self.part, axis=axis + 1)
        x = x.reshape(*before, self.num_groups, self.parts * self.part, *after)
        x = lax.slice_in_dim(x, 0, self.group, axis=axis + 1)
        return x.reshape(*before, self.num_groups * self.group, *after)


def _padded(x: Array, axis: int, size: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - x.shape[axis])
    return x if size == x.shape[axis] else jnp.pad(x, widths)
