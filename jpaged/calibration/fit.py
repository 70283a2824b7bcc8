"""Finds the costs under which the measured steps take what they took.

    seconds ≈ base(bucket) + token(bucket) · tokens + what the whole table has in common

Least squares on the relative error.  It is relative to what the fit expects, not to what was
measured: the latter would listen to the quick steps more than to the slow ones, and the sum of all
steps would come out too short.

Of many steps only bounds are known (see `Measured`), and those whose end was waited for are the
slow ones of their kind: they alone would tell of a slower device.  So each bounded step counts as
what it takes on average within its bounds, by the fit and its spread so far, until neither moves
(expectation and maximisation; Tobin, Econometrica 26, 1958, for bounds on one side).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jpaged.calibration.meter import Admitted, Measured
from jpaged.calibration.scatter import LEAST, mean_within, spreads_of, variance_within
from jpaged.scheduling.buckets import Bucket
from jpaged.simulator.table import Row

COMMON = ("read", "pair", "sequence", "moved", "rest", "prompts")
HOST = (
    "host_seconds",
    "host_prompt",
    "host_token",
    "host_sequence",
    "host_rest",
    "host_prompts",
)
ENTER = ("enter_seconds", "enter_prompt", "enter_sequence", "enter_end")
ADMIT = ("admit_seconds", "admit_token")
ROUNDS = 16  # of weighting anew
PAUSE = 5.0  # a step that took so many times what it should was held up by somebody else
SPREAD = 0.3  # of steps around what they should take, to begin with
PRIOR = 2.0  # measurements that all steps of its kind count for in a bucket
KINDS = (True, False)  # decode steps, and steps with prompts


@dataclass(frozen=True)
class Fit:
    """Costs in seconds: of buckets, and of what counts in all of them, by COMMON; of the host, by
    HOST, ENTER and ADMIT."""

    rows: dict[Bucket, Row]
    common: dict[str, float]
    host: dict[str, float]


def fit(
    steps: Sequence[Measured], buckets: Sequence[Bucket], admitted: Sequence[Admitted] = ()
) -> Fit:
    """The costs of these buckets, those that were measured seldom or never from their kind.

    Raises `ValueError` if there is nothing to fit.
    """
    if not steps:
        raise ValueError("no step was measured; let the calibration run for longer")
    groups = np.array([buckets.index(each.shape.bucket) for each in steps])  # type: ignore[arg-type]
    count = len(buckets)
    costs, spreads = _fit_device(steps, buckets, groups)
    host_costs, host_spreads = _fit_host(steps, buckets, groups)
    bases, least = host_costs[:count], min(host_costs[:count])
    rows = {
        bucket: Row(
            base=float(costs[i]),
            token=float(costs[count + i]),
            host=float(bases[i] - least),
            spread=float(spreads[i]),
            host_spread=float(host_spreads[i]),
        )
        for i, bucket in enumerate(buckets)
    }
    host = _named(HOST, [least, *host_costs[count:]])
    return Fit(
        rows=rows,
        common=_named(COMMON, costs[2 * count :]),
        host=host | _fit_entering(steps) | _fit_admitting(admitted),
    )


def _named(names: Sequence[str], costs: Iterable[float]) -> dict[str, float]:
    return dict(zip(names, map(float, costs), strict=True))


def _fit_entering(steps: Sequence[Measured]) -> dict[str, float]:
    seen = [each for each in steps if each.entering is not None]
    counts = [
        [1, each.shape.num_prompts, each.shape.num_sequences, each.num_ended] for each in seen
    ]
    return _named(ENTER, _fit_plain(counts, [each.entering for each in seen], len(ENTER)))


def _fit_admitting(admitted: Sequence[Admitted]) -> dict[str, float]:
    counts = [[1, each.num_tokens] for each in admitted]
    return _named(ADMIT, _fit_plain(counts, [each.seconds for each in admitted], len(ADMIT)))


def _fit_plain(counts: Sequence, seconds: Sequence, num_costs: int) -> np.ndarray:
    """What each of these costs, where all that was measured is exact and of one kind."""
    if not counts:
        return np.zeros(num_costs)
    bounds = np.array([[each, each] for each in seconds])
    return _fit(np.array(counts, float), bounds, np.zeros(len(counts), int), 1)[0]


def _fit_device(
    steps: Sequence[Measured], buckets: Sequence[Bucket], groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.array([[each.least, each.most] for each in steps])
    kinds = [is_decode(bucket) for bucket in buckets]
    of_kind = [is_decode(each.shape.bucket) for each in steps]
    usual, _ = _fit(_features(steps, of_kind, KINDS), bounds, np.zeros_like(groups), 1)
    prior = _prior(usual, buckets, kinds)
    features = _features(steps, [each.shape.bucket for each in steps], buckets)
    return _fit(features, bounds, groups, len(buckets), *prior)


def _fit_host(
    steps: Sequence[Measured], buckets: Sequence[Bucket], groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A base for each bucket, and what adds to it, by HOST."""
    bounds = np.array([[each.host, each.host] for each in steps])
    of_kind = [is_decode(each.shape.bucket) for each in steps]
    usual, _ = _fit(_host_features(steps, of_kind, KINDS), bounds, np.zeros_like(groups), 1)
    prior = np.zeros((len(buckets), len(buckets) + len(HOST) - 1))
    for i, bucket in enumerate(buckets):
        prior[i, i] = 1 / max(usual[KINDS.index(is_decode(bucket))], 1e-6)
    features = _host_features(steps, [each.shape.bucket for each in steps], buckets)
    return _fit(features, bounds, groups, len(buckets), prior, np.ones(len(buckets)))


def _host_features(steps: Sequence[Measured], groups: Sequence, names: Sequence) -> np.ndarray:
    shapes = [each.shape for each in steps]
    common = [
        [s.num_prompts, s.num_tokens, s.num_sequences, s.after_rest, s.after_prompts]
        for s in shapes
    ]
    return np.concatenate([_inside(groups, names), np.array(common, float)], axis=1)


def taken(steps: Sequence[Measured], expected: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Seconds that steps took; of those that are bounded only, what is likely where so much was
    expected."""
    bounds = np.array([[each.least, each.most] for each in steps])
    low, high = (bounds / expected[:, None]).T
    return expected * mean_within(low, high, np.maximum(spread, LEAST))


def is_decode(bucket: Bucket | None) -> bool:
    return bucket is not None and bucket.is_decode


def _features(steps: Sequence[Measured], groups: Sequence, names: Sequence) -> np.ndarray:
    """What each cost is multiplied by, a row a step: bases, tokens of each group, COMMON."""
    shapes = [each.shape for each in steps]
    inside = _inside(groups, names)
    tokens = inside * np.array([[shape.num_tokens] for shape in shapes])
    common = [
        [s.num_read, s.num_pairs, s.num_sequences, s.num_moved, s.after_rest, s.after_prompts]
        for s in shapes
    ]
    return np.concatenate([inside, tokens, np.array(common, float)], axis=1)


def _inside(groups: Sequence, names: Sequence) -> np.ndarray:
    """1 where a step is of the group of that name."""
    return np.array([[group == name for name in names] for group in groups], float)


def _fit(
    features: np.ndarray,
    bounds: np.ndarray,
    groups: np.ndarray,
    count: int,
    prior: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Costs of least relative error, and each group's spread around them.

    prior, wanted: equations that are there beside the steps.
    """
    expected, costs = np.maximum(bounds[:, 1], 1e-6), np.zeros(features.shape[1])
    spreads = np.full(count, SPREAD)
    for _ in range(ROUNDS):
        low, high = np.minimum(bounds / expected[:, None], PAUSE).T
        matrix, share = features / expected[:, None], mean_within(low, high, spreads[groups])
        if prior is not None and wanted is not None:
            matrix, share = np.concatenate([matrix, prior]), np.concatenate([share, wanted])
        costs = _solve(matrix, share)
        expected = np.maximum(features @ costs, 1e-6)
        low, high = np.clip(bounds / expected[:, None], [0.0, 1 / PAUSE], PAUSE).T
        spreads = spreads_of(variance_within(low, high, spreads[groups]), groups, count)
    return costs, spreads


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
