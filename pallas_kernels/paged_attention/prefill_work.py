"""What a block of the prompt kernel has to do: known when it is traced, and when it runs."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

WARPGROUP_ROWS = 64  # of one wgmma
ROWS = 2 * WARPGROUP_ROWS
STAGES = 2  # KV tiles in shared memory
Ref = Any  # JAX has no public type for what a kernel gets
MOST_HEADS = 16  # of a tile, which so has 8 tokens at least


@dataclass(frozen=True)
class Plan:
    """What is fixed when the kernel is traced."""

    group: int  # query heads that share a kv head
    dim: int
    page_size: int
    dtype: jnp.dtype
    scale: float
    window: int | None
    softcap: float | None
    has_alibi: bool
    causal: bool
    is_interpreted: bool

    @property
    def heads(self) -> int:
        """In a tile: as many as divide its rows, so that a long prompt leaves none empty."""
        return math.gcd(self.group, MOST_HEADS)

    @property
    def tokens(self) -> int:
        """In a tile."""
        return ROWS // self.heads

    @property
    def keys(self) -> int:
        """In a KV tile: two stages of K and V and the queries take 160 or 192 KiB at most."""
        return 128 if self.dim <= 128 else 64

    @property
    def piece(self) -> int:
        """Keys that one copy brings: a page, or part of one that is larger than a KV tile."""
        return min(self.page_size, self.keys)

    @property
    def box(self) -> int:
        """Tokens that one copy brings: those of one head, as far as one warpgroup has them."""
        return min(self.tokens, WARPGROUP_ROWS)

    @property
    def num_boxes(self) -> int:
        """Of a warpgroup."""
        return WARPGROUP_ROWS // self.box

    def scratch(self) -> list:
        """Shared memory and barriers, in the order of `Refs`."""
        width = math.gcd(self.dim * 2, 128)  # bytes that are swizzled: 32 for a dim of 80
        swizzled = (
            plgpu.TilingTransform((8, width // 2)),  # pyright: ignore[reportAbstractUsage]
            plgpu.SwizzleTransform(width),  # pyright: ignore[reportAbstractUsage]
        )
        rows, keys = (2, WARPGROUP_ROWS, self.dim), (STAGES, self.keys, self.dim)
        filled = plgpu.Barrier(num_barriers=STAGES, num_arrivals=self.keys // self.piece)
        used = plgpu.Barrier(num_barriers=STAGES, num_arrivals=2)
        return [
            plgpu.RefUnion(
                plgpu.SMEM(rows, self.dtype, transforms=swizzled), plgpu.SMEM(rows, self.dtype)
            ),
            plgpu.SMEM(keys, self.dtype, transforms=swizzled),
            plgpu.SMEM(keys, self.dtype, transforms=swizzled),
            plgpu.Barrier(num_barriers=2, num_arrivals=self.num_boxes),
            *(filled, filled, used, used),
            plgpu.Barrier(num_arrivals=2),
            plgpu.Barrier(num_arrivals=2),
        ]


class Refs(NamedTuple):
    """Global memory, shared memory and barriers, in the order of the kernel's arguments."""

    q: Ref  # [T, H, D]
    k_pages: Ref  # [P, K, S, D]
    v_pages: Ref
    pages: Ref  # [B, N]
    tiles: Ref  # [M, 6]
    slopes: Ref  # [H]
    out: Ref  # [T, H, D]
    lse: Ref  # [M, H // heads, ROWS]
    rows: tuple[Ref, Ref]  # [2, 64, D] twice in one place: swizzled, and as it is in `out`
    k: Ref  # [STAGES, keys, D]
    v: Ref
    q_ready: Ref
    k_ready: Ref
    v_ready: Ref
    k_free: Ref
    v_free: Ref
    turn: Ref
    both: Ref


class Box(NamedTuple):
    """Rows of a warpgroup that lie together in q and out, too."""

    head: Array
    place: Array  # of its first token in the tile
    row: int


class Work(NamedTuple):
    """One block's work.  Places count from the tile's first token, `start`."""

    heads: Array  # the block of heads
    tile: Array
    sequence: Array
    start: Array
    begin: Array  # the first place that is the sequence's own
    end: Array
    position: Array  # of `start`
    num_keys: Array
    first_key: Array  # of the first KV tile
    num_steps: Array  # KV tiles

    def boxes(self, plan: Plan, warpgroup: Array) -> list[Box]:
        """Rows go head by head, and token by token within."""
        in_head = jnp.int32(plan.tokens // plan.box)
        first = warpgroup * plan.num_boxes
        return [
            Box(
                head=self.heads * plan.heads + lax.div(first + i, in_head),
                place=lax.rem(first + i, in_head) * plan.box,
                row=i * plan.box,
            )
            for i in range(plan.num_boxes)
        ]

    def whole_steps(self, plan: Plan) -> tuple[Array, Array]:
        """Between which KV tiles all queries see all keys; behind them no one sees all of them."""
        keys = jnp.int32(plan.keys)
        first_query, last_query = self.position + self.begin, self.position + self.end - 1
        seen = jnp.minimum(self.num_keys, first_query + 1) if plan.causal else self.num_keys
        end = lax.div(jnp.maximum(seen - self.first_key, 0), keys)
        if plan.window is None:
            return jnp.int32(0), end
        unseen = jnp.maximum(last_query - plan.window + 1 - self.first_key, 0)
        return jnp.minimum(pl.cdiv(unseen, keys), end), end


def find_work(refs: Refs, plan: Plan) -> Work:
    """Reads the block's tile; the last ones come first, as those of a prompt have most to do."""
    tile = refs.tiles.shape[0] - 1 - lax.axis_index("tile")
    sequence, start, begin, end, position, num_keys = (refs.tiles[tile, i] for i in range(6))
    begin, end = begin - start, end - start
    seen = jnp.minimum(num_keys, position + end) if plan.causal else num_keys
    first_key = jnp.int32(0)
    if plan.window is not None:  # pages wholly before the window may be another's by now
        first_key = jnp.maximum(position + begin - plan.window + 1, 0)
        first_key -= lax.rem(first_key, jnp.int32(plan.piece))
    num_steps = pl.cdiv(jnp.maximum(seen - first_key, 0), jnp.int32(plan.keys))
    queries = (sequence, start, begin, end, position)
    return Work(lax.axis_index("heads"), tile, *queries, num_keys, first_key, num_steps)
