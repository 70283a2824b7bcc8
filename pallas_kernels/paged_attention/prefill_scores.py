"""What becomes of a product of queries and keys before it is an exponent, in the prompt kernel.

Scores are [64, keys] in registers; a row is a token's head, a column a key from `first_key` on.
"""

import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels.paged_attention.prefill_work import WARPGROUP_ROWS, Plan, Refs, Work

LOG2E = 1.4426950408889634  # exponentials are to base two, as the hardware has them
WGMMA = plgpu.Layout.WGMMA


def to_base_two(
    warpgroup: Array, refs: Refs, plan: Plan, work: Work, first_key: Array, scores: Array
) -> tuple[Array, float]:
    """Scores, and the factor that makes them exponents of two: a fused one, where it can be."""
    if plan.softcap is None and not plan.has_alibi:
        return scores, plan.scale * LOG2E
    if plan.softcap is None:
        scores = scores * (plan.scale * LOG2E)
    else:  # c tanh(s / c) = c - 2c / (1 + exp(2s / c)): the hardware's tanh keeps 11 bits only
        grown = jnp.exp2(scores * (2 * LOG2E * plan.scale / plan.softcap))
        scores = plan.softcap * LOG2E - 2 * plan.softcap * LOG2E / (1 + grown)
    if plan.has_alibi:
        key, row = _iota(plan, 1), _iota(plan, 0)
        query = _place(warpgroup, plan, row) + (work.position - first_key)
        slopes = plgpu.layout_cast(jnp.zeros(scores.shape, jnp.float32), WGMMA)
        for box in work.boxes(plan, warpgroup):
            slopes = jnp.where(row >= box.row, refs.slopes[box.head] * LOG2E, slopes)
        scores += slopes * (key - query).astype(jnp.float32)
    return scores, 1.0


def _iota(plan: Plan, axis: int) -> Array:
    return plgpu.broadcasted_iota(jnp.int32, (WARPGROUP_ROWS, plan.keys), axis, layout=WGMMA)


def _place(warpgroup: Array, plan: Plan, row: Array) -> Array:
    """Which token of the tile a row is."""
    return (row + warpgroup * WARPGROUP_ROWS) & (plan.tokens - 1)


def seen_keys(
    warpgroup: Array, plan: Plan, work: Work, first_key: Array, at_begin: bool, at_end: bool
) -> Array:
    """Which keys each row sees of a KV tile at the begin of windows, or at the end."""
    key = _iota(plan, 1)
    query = _place(warpgroup, plan, _iota(plan, 0)) + (work.position - first_key)
    # Rows behind the sequence's last query see keys that nobody has written; they are not stored.
    at_or_before = key <= query if plan.causal else key < work.num_keys - first_key
    if not at_begin or plan.window is None:
        return at_or_before
    in_window = key > query - plan.window
    return at_or_before & in_window if at_end else in_window
