"""How a decode step is cut: keys a tile, tiles in flight, and splits of a sequence.

A block of four warps serves one sequence's kv head, or one split of it, and walks the keys tile by
tile.  What it needs is bandwidth: an SM of an H200 draws 36 bytes a nanosecond (4.8 TB/s over 132
SMs), and memory answers after 0.6 to 1 microseconds, so 22 to 36 KiB must be under way on each SM
at all times (Little's law).  Three blocks an SM with a tile of 32 KiB under way each are enough,
and their number hides what a tile costs between its arrival and the next one's.
"""

import math
from dataclasses import dataclass

from jax import Array
from jax.extend import backend

from pallas_kernels.gpu import compute_capability

KEYS = (64, 32, 16)  # of a tile: 16 rows of a product for each warp along them
LANES = 8  # columns of a tensor core's product: query heads, in multiples of it
MOST_HEADS = 32  # of a block, in registers; larger groups are cut
MOST_STAGES = 8
SCRATCH = 4096  # bytes for reductions across warps, for barriers, and kept by the system
MOST_SPLITS = 128
FEWEST_KEYS = 128  # of a split: a shorter one costs more to begin than to do


@dataclass(frozen=True)
class Gpu:
    """What a plan depends on.  `shared_bytes` is what the blocks of one SM share."""

    compute_capability: tuple[int, int] = (9, 0)
    num_sms: int = 132
    shared_bytes: int = 227 * 1024

    @property
    def has_tma(self) -> bool:
        return self.compute_capability >= (9, 0)

    @classmethod
    def of(cls, compute_capability: tuple[int, int]) -> "Gpu":
        """The smallest shared memory that a GPU of this capability has for one block."""
        is_large = compute_capability[0] in (9, 10) or compute_capability in ((8, 0), (8, 7))
        large = 163 if compute_capability[0] == 8 else 227
        return cls(compute_capability, shared_bytes=(large if is_large else 99) * 1024)


def current_gpu() -> Gpu:
    """The GPU a kernel is traced for; where there is none, the one that the interpreter assumes."""
    device = backend.get_default_device()
    if not hasattr(device, "compute_capability"):
        return Gpu()
    sizes = device.core_count, device.shared_memory_per_block_optin
    return Gpu(compute_capability(), *sizes)


@dataclass(frozen=True)
class Plan:
    """How one block works.

    keys: of a tile.  heads: of a block, a padded group or a part of one.  warps: how many of the
    four lie along the rows of a product, the others along its columns.  stages: tiles in shared
    memory.  swizzle: bytes of a row that lie together there; 0 where rows lie as in memory.
    """

    keys: int
    heads: int
    warps: int
    stages: int
    swizzle: int
    blocks_per_sm: int


def plan_for(q: Array, k_pages: Array, gpu: Gpu) -> Plan | str:
    """The plan for q: [B, H, D] over pages [P, K, S, D], or why there is none."""
    D, S = q.shape[2], k_pages.shape[2]
    row = D * k_pages.dtype.itemsize
    shape = _shape_of_products(D, heads_of_a_block(q, k_pages))
    if shape is None:
        return f"no product of tensor cores has {D} rows"
    keys, heads, warps = shape
    swizzle = _swizzle(min(S, keys), row, gpu)
    if swizzle is None:
        return f"{min(S, keys)} x {row} bytes cannot be shared out among four warps before sm_90"
    fixed = SCRATCH + 2 * keys * heads * q.dtype.itemsize  # weights, twice
    if k_pages.dtype != q.dtype:
        fixed += 2 * keys * D * q.dtype.itemsize  # converted values, twice
    # more than three of most shapes' blocks would want more registers than an SM has
    is_small = warps == 1 or (D <= 64 and heads == LANES)
    for blocks in range(4 if is_small else 3, 0, -1):
        stages = (gpu.shared_bytes // blocks - fixed) // (2 * keys * row)
        if stages >= 2:
            return Plan(keys, heads, warps, min(stages, MOST_STAGES), swizzle, blocks)
    return f"two tiles of {keys} x {row} bytes, K and V, are more than {gpu.shared_bytes} bytes"


def heads_of_a_block(q: Array, k_pages: Array) -> int:
    """A whole group of query heads, or an even part of a large one."""
    group = q.shape[1] // k_pages.shape[1]
    return math.ceil(group / math.ceil(group / MOST_HEADS))


def _shape_of_products(D: int, heads: int) -> tuple[int, int, int] | None:
    """Keys of a tile, padded heads, and warps along the rows: the same in both products.

    The running peak is per head, spread as the scores' columns are; it must fit the result's.
    """
    for keys in KEYS:
        for padded in range(math.ceil(heads / LANES) * LANES, heads + 4 * LANES, LANES):
            warps = _warps_along_rows(keys, padded)
            if warps is not None and warps == _warps_along_rows(D, padded):
                return keys, padded, warps
    return None


def _warps_along_rows(rows: int, columns: int) -> int | None:
    """How Mosaic lays out a product of this shape: as many warps along its rows as divide them."""
    fits = (n for n in (4, 2, 1) if rows % (16 * n) == 0 and columns % (8 * 4 // n) == 0)
    return next(fits, None)


def _swizzle(rows: int, row: int, gpu: Gpu) -> int | None:
    """The widest that divides a row; before Hopper all four warps must have a part of a copy."""
    for width in (128, 64, 32):
        of_four = 4 // math.gcd(4, rows // 8)  # the warps that are left for the columns
        is_shared_out = row // width % of_four == 0
        if row % width == 0 and (gpu.has_tma or is_shared_out):
            return width
    return 0 if gpu.has_tma else None


def choose_splits(num_blocks: int, width: int, plan: Plan, gpu: Gpu) -> int:
    """Splits for `num_blocks` of unsplit work over contexts of up to `width` keys.

    Blocks come in waves of `seats`.  Four waves lose at most an eighth to the last one, and even
    out sequences of different lengths; that is worth splits of 512 keys, whose partial results are
    3 % of what they read.  An idle GPU is worth shorter ones, of `FEWEST_KEYS`.
    """
    seats = gpu.num_sms * plan.blocks_per_sm
    for_balance = min(math.ceil(4 * seats / num_blocks), math.ceil(width / 512))
    for_company = min(math.ceil(seats / num_blocks), math.ceil(width / FEWEST_KEYS))
    return max(1, min(max(for_balance, for_company), MOST_SPLITS))
