"""How long prompts and answers are: laws with a documented mean.

Kwon et al. (SOSP 2023, section 6.1) draw their traces from ShareGPT and Alpaca.  What is published
of them are the means, in tokens of OPT: 161 in and 338 out, 19 in and 58 out.  The spreads are
therefore ours, and whoever reports a figure should say how much it moves with them:

    outputs    as wide as the exponential law, which assumes least where only a mean is known
               (standard deviation = mean, a log-spread of 0.83)
    prompts    ShareGPT's are many short questions and few long pasted texts: a log-spread of 1.5.
               Alpaca's are a sentence or two: 0.55

Medians are then 82 and 279 for ShareGPT, 16 and 41 for Alpaca.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from random import Random
from statistics import NormalDist

CONTEXT = 2048  # tokens of prompt and output together, OPT's limit
NORMAL = NormalDist()
EXPONENTIAL_LIKE = math.sqrt(math.log(2))  # the log-spread of a deviation that equals the mean


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths from 1 to `most`, whose mean is `mean` after they were cut off there.

    log_spread: the standard deviation of the logarithm, before the cut.
    """

    mean: float
    log_spread: float
    most: int

    def draw(self, rng: Random) -> int:
        """One length; takes one number from `rng`, so traces of other laws stay in step."""
        # of an open interval: the normal law has no quantile at 0
        place = max(rng.random(), 1e-12) * self._share_kept(self._log_median)
        return max(1, round(math.exp(self._log_median + self.log_spread * NORMAL.inv_cdf(place))))

    @property
    def median(self) -> float:
        """The length that half of them do not reach."""
        place = 0.5 * self._share_kept(self._log_median)
        return math.exp(self._log_median + self.log_spread * NORMAL.inv_cdf(place))

    @cached_property
    def _log_median(self) -> float:
        """Where the uncut law must lie for the cut one to have the mean; by bisection."""
        low, high = 0.0, math.log(self.most) + 10 * self.log_spread
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self._mean_at(middle) < self.mean else (low, middle)
        return low

    def _mean_at(self, log_median: float) -> float:
        """The mean of the cut law."""
        spread = self.log_spread
        uncut = math.exp(log_median + spread**2 / 2)
        return uncut * self._share_kept(log_median + spread**2) / self._share_kept(log_median)

    def _share_kept(self, log_median: float) -> float:
        return NORMAL.cdf((math.log(self.most) - log_median) / self.log_spread)


@dataclass(frozen=True)
class Conversations:
    """What is asked and answered in a data set."""

    name: str
    prompts: Lengths
    outputs: Lengths

    def shortened(self, divisor: float, most: int) -> "Conversations":
        """Texts of a fraction of the length and the same spread, none longer than `most` tokens."""

        def shorter(lengths: Lengths) -> Lengths:
            return Lengths(lengths.mean / divisor, lengths.log_spread, most)

        return Conversations(self.name, shorter(self.prompts), shorter(self.outputs))


# half of the context each: no pair has to be thrown away, which would move the means
SHAREGPT = Conversations(
    "ShareGPT-like",
    prompts=Lengths(161, 1.5, CONTEXT // 2),
    outputs=Lengths(338, EXPONENTIAL_LIKE, CONTEXT // 2),
)
ALPACA = Conversations(
    "Alpaca-like",
    prompts=Lengths(19, 0.55, CONTEXT // 2),
    outputs=Lengths(58, EXPONENTIAL_LIKE, CONTEXT // 2),
)
