"""Merging partial attention, against one softmax over all parts, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.paged_attention.merge import merge

M, B, H, D, L = 3, 4, 2, 8, 5  # parts of L keys each


def parts(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores [M, B, H, L] and values [M, B, H, L, D]."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (M, B, H, L)), rng.normal(size=(M, B, H, L, D))


def attended(scores: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each part by itself: its result and log-sum-exp."""
    weights = np.exp(scores)
    total = weights.sum(-1)
    out = np.einsum("...l,...ld->...d", weights, values) / total[..., None]
    return out.astype(np.float32), np.log(total).astype(np.float32)


def together(scores, values, sinks=0) -> tuple[np.ndarray, np.ndarray]:
    weights = np.exp(scores)
    total = weights.sum((0, -1)) + sinks
    return np.einsum("mbhl,mbhld->bhd", weights, values) / total[..., None], np.log(total)


@pytest.mark.parametrize("sinks", [None, np.array([-2.0, 7.0], np.float32)], ids=["", "sinks"])
def test_parts_merge_to_one_softmax(sinks):
    scores, values = parts()
    expected = together(scores, values, 0 if sinks is None else np.exp(sinks))

    merged = jax.jit(merge)(*map(jnp.asarray, attended(scores, values)), sinks)

    for each, exact in zip(merged, expected, strict=True):
        np.testing.assert_allclose(each, exact, rtol=1e-5, atol=1e-6)


def test_a_merge_of_merges_is_the_merge_of_all():
    outs, lses = map(jnp.asarray, attended(*parts()))

    first = merge(outs[:2], lses[:2])
    both = [jnp.stack([one, other]) for one, other in zip(first, (outs[2], lses[2]), strict=True)]

    for each, expected in zip(merge(*both), merge(outs, lses), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [-1e4, 300, 1e4])
def test_large_logarithms_neither_overflow_nor_vanish(shift):
    outs, lses = map(jnp.asarray, attended(*parts()))

    out, lse = merge(outs, lses + shift)

    expected, near = merge(outs, lses)
    np.testing.assert_allclose(out, expected, rtol=1e-2)  # at 1e4 a float32 keeps 1e-3
    np.testing.assert_allclose(lse, near + shift, rtol=1e-6)


@pytest.mark.parametrize("left", [np.nan, np.inf, 1.0])
def test_a_part_that_counts_nothing_may_hold_anything(left):
    outs, lses = attended(*parts())
    expected = merge(jnp.asarray(outs[1:]), jnp.asarray(lses[1:]))
    outs[0], lses[0] = left, -np.inf

    merged = merge(jnp.asarray(outs), jnp.asarray(lses))

    for each, exact in zip(merged, expected, strict=True):
        np.testing.assert_allclose(each, exact, rtol=1e-6)


def test_rows_without_any_part_are_zeros_whatever_their_sink():
    outs, lses = jnp.full((M, B, H, D), jnp.nan), jnp.full((M, B, H), -jnp.inf)
    sinks = jnp.asarray([1.0, -300.0])

    without, lse = merge(outs, lses)
    with_sinks, of_sinks = merge(outs, lses, sinks)

    assert not without.any() and np.isneginf(lse).all()
    assert not with_sinks.any()
    np.testing.assert_allclose(of_sinks, np.broadcast_to(sinks, (B, H)))


def test_a_parts_nan_is_not_lost():
    outs, lses = attended(*parts())
    outs[1, 0], lses[1, 0] = np.nan, np.nan

    out, _ = merge(jnp.asarray(outs), jnp.asarray(lses))

    assert np.isnan(out[0]).all() and np.isfinite(out[1:]).all()
