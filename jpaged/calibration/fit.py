"""Finds the costs under which the measured steps take what they took.

    seconds ≈ base(bucket) + token(bucket) · tokens + what the whole table has in common

Least squares on the relative error.  It is relative to what the fit expects, not to what was
measured: the latter would listen to the quick steps more than to the slow ones, and the sum of all
steps would come out too short.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jpaged.calibration.meter import Measured
from jpaged.scheduling.buckets import Bucket
from jpaged.simulator.table import Row

COMMON = ("read", "pair", "sequence", "moved")
HOST = ("host_seconds", "host_prompts", "host_token", "host_sequence")
ROUNDS = 8  # of weighting anew
PAUSE = 3.0  # a step that took so many times what it should was held up by somebody else
ENOUGH = 10  # exact steps of a bucket
PRIOR = 2.0  # measurements that all steps of its kind count for in a bucket
KINDS = (True, False)  # decode steps, and steps with prompts


@dataclass(frozen=True)
class Fit:
    """Costs in seconds: of buckets, and of what counts in all of them, by COMMON and HOST."""

    rows: dict[Bucket, Row]
    common: dict[str, float]
    host: dict[str, float]


def fit(steps: Sequence[Measured], buckets: Sequence[Bucket]) -> Fit:
    """The costs of these buckets, those that were measured seldom or never from their kind.

    Raises `ValueError` if there is nothing to fit.
    """
    if not steps:
        raise ValueError("no step was measured; let the calibration run for longer")
    host = _fit_host(steps)
    steps = telling(steps)
    seconds = np.array([each.seconds for each in steps])
    kinds = [is_decode(bucket) for bucket in buckets]
    usual = _fit(_features(steps, [is_decode(each.shape.bucket) for each in steps], KINDS), seconds)
    prior = _prior(usual, buckets, kinds)
    features = _features(steps, [each.shape.bucket for each in steps], buckets)
    found = [float(value) for value in _fit(features, seconds, *prior)]
    count = len(buckets)
    return Fit(
        rows={b: Row(found[i], found[count + i]) for i, b in enumerate(buckets)},
        common=dict(zip(COMMON, found[2 * count :], strict=True)),
        host=host,
    )


def _fit_host(steps: Sequence[Measured]) -> dict[str, float]:
    shapes = [each.shape for each in steps]
    rows = [[1, s.num_tokens > s.num_sequences, s.num_tokens, s.num_sequences] for s in shapes]
    found = _fit(np.array(rows, float), np.array([each.host for each in steps]))
    return dict(zip(HOST, map(float, found), strict=True))


def telling(steps: Sequence[Measured]) -> list[Measured]:
    """The steps that tell what the device takes: of each bucket the exact ones.

    Where there are too few, the host is slower than the device, and all of them bound it from
    above; more cannot be known, nor does it matter.
    """
    num_exact = Counter(each.shape.bucket for each in steps if each.is_exact)
    return [each for each in steps if each.is_exact or num_exact[each.shape.bucket] < ENOUGH]


def is_decode(bucket: Bucket | None) -> bool:
    return bucket is not None and bucket.is_decode


def _features(steps: Sequence[Measured], groups: Sequence, names: Sequence) -> np.ndarray:
    """What each cost is multiplied by, a row a step: bases, tokens of each group, COMMON."""
    shapes = [each.shape for each in steps]
    inside = np.array([[group == name for name in names] for group in groups], float)
    tokens = inside * np.array([[shape.num_tokens] for shape in shapes])
    common = [[s.num_read, s.num_pairs, s.num_sequences, s.num_moved] for s in shapes]
    return np.concatenate([inside, tokens, np.array(common, float)], axis=1)


def _fit(
    features: np.ndarray,
    seconds: np.ndarray,
    prior: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """Costs of least relative error; prior, wanted: equations that are there beside the steps."""
    expected, costs = seconds, np.zeros(features.shape[1])
    for _ in range(ROUNDS):
        matrix = features / expected[:, None]
        share = np.minimum(seconds / expected, PAUSE)
        if prior is not None and wanted is not None:
            matrix, share = np.concatenate([matrix, prior]), np.concatenate([share, wanted])
        costs = _solve(matrix, share)
        expected = np.maximum(features @ costs, 1e-6)
    return costs


def _prior(
    usual: np.ndarray, buckets: Sequence[Bucket], kinds: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Equations that hold each bucket, loosely, to the line through all of its kind."""
    rows, weight, count = [], np.sqrt(PRIOR / 2), len(buckets)
    for i, (bucket, kind) in enumerate(zip(buckets, kinds, strict=True)):
        base, token = usual[KINDS.index(kind)], usual[len(KINDS) + KINDS.index(kind)]
        lower = [
            b.num_tokens for b, k in zip(buckets, kinds, strict=True) if k == kind and b < bucket
        ]
        for place in (max(lower, default=1), bucket.num_tokens):
            row = np.zeros(2 * count + len(COMMON))
            row[i], row[count + i] = 1, place
            rows.append(row * weight / max(base + token * place, 1e-6))
    return np.array(rows), np.full(len(rows), weight)


def _solve(matrix: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares without negative costs: the most negative is left out until there is none."""
    costs, kept = np.zeros(matrix.shape[1]), np.flatnonzero(matrix.any(axis=0))
    while kept.size:
        scale = np.linalg.norm(matrix[:, kept], axis=0)
        found = np.linalg.lstsq(matrix[:, kept] / scale, wanted, rcond=None)[0]
        if found.min() >= 0:
            costs[kept] = found / scale
            break
        kept = np.delete(kept, found.argmin())
    return costs
