"""How single steps scatter around what they should take: by a log-normal law whose mean is 1.

    ln(share) ~ Normal(-spread² / 2, spread²)

Short steps on a busy host scatter widely and to one side; a normal law would not know the few long
ones, for which a host has to wait.
"""

import numpy as np
from scipy.special import ndtr

LEAST, MOST = 0.02, 1.2  # of a spread
FAINT = 1e-9  # so little of the law lies within bounds that they are all one knows
ENOUGH = 10  # steps of a group that weigh as much as all others


def mean_within(low: np.ndarray, high: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """What a share is on average that lies between `low` and `high`; exact ones are what they
    are."""
    at_low, at_high = _standard(low, spread), _standard(high, spread)
    mass = ndtr(at_high) - ndtr(at_low)
    inside = (ndtr(at_high - spread) - ndtr(at_low - spread)) / np.maximum(mass, FAINT)
    return np.where(mass > FAINT, np.clip(inside, low, high), np.clip(1.0, low, high))


def variance_within(low: np.ndarray, high: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The squared deviation of a share's logarithm from its mean, on average between bounds."""
    at_low, at_high = _standard(low, spread), _standard(high, spread)
    mass = ndtr(at_high) - ndtr(at_low)
    tail = (_weighted(at_low) - _weighted(at_high)) / np.maximum(mass, FAINT)
    nearest = np.clip(0.0, at_low, at_high) ** 2
    square = np.where(mass > FAINT, np.maximum(1 + tail, 0.0), nearest)
    return spread**2 * np.where(low == high, at_high**2, square)


def spreads_of(variances: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The spread of each of so many groups; small ones are like all together."""
    everybody = variances.mean()
    sums = np.bincount(groups, variances, count) + ENOUGH * everybody
    return np.clip(np.sqrt(sums / (np.bincount(groups, minlength=count) + ENOUGH)), LEAST, MOST)


def _standard(share: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return (np.log(np.maximum(share, 1e-12)) + spread**2 / 2) / spread


def _weighted(at: np.ndarray) -> np.ndarray:
    return at * np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)
