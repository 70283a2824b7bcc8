"""Attention as a ragged kernel returns it, in float64: with the logarithm of the softmax's sum."""

import numpy as np
from ragged import Ragged


def partial_attention(
    batch: Ragged,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    alibi: np.ndarray | None = None,
    causal: bool = True,
    least_queries: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """[T, H, D] and [T, H]; zeros and -inf for padding and for sequences of too few queries."""
    H, D = batch.shape.H, batch.shape.D
    out, lse = np.zeros((batch.shape.T, H, D)), np.full((batch.shape.T, H), -np.inf)
    first = 0
    for (before, new), q, k, v in zip(
        batch.spans, batch.queries, batch.keys, batch.values, strict=True
    ):
        rows, first = slice(first, first + new), first + new
        if new >= least_queries:
            distance = np.arange(before + new) - np.arange(before, before + new)[:, None]
            seen = np.ones_like(distance, bool)
            seen &= (distance <= 0) | (not causal)
            seen &= window is None or distance > -window
            for h in range(H):
                kv = h // (H // batch.shape.K)
                s = q[:, h].astype(np.float64) @ k[:, kv].astype(np.float64).T * scale
                s = s if softcap is None else softcap * np.tanh(s / softcap)
                s = s if alibi is None else s + alibi[h] * distance
                weights = np.where(seen, np.exp(s), 0)
                total = weights.sum(1, keepdims=True)
                out[rows, h] = weights / total @ v[:, kv].astype(np.float64)
                lse[rows, h] = np.log(total[:, 0])
    return out, lse
