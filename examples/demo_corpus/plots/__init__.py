"""All the plots that stories can have."""

from demo_corpus.plots.courage import FEAR, NOISE, RESCUE
from demo_corpus.plots.effort import BIRTHDAY, RACE, SEED
from demo_corpus.plots.friendship import QUARREL, SHARE, TRUTH
from demo_corpus.plots.plot import Plot
from demo_corpus.plots.seeking import GIFT, JOURNEY, LOST

# The order matters: it decides which story a seed tells.
ALL_PLOTS: tuple[Plot, ...] = (
    LOST, FEAR, SHARE, RESCUE, JOURNEY, QUARREL, BIRTHDAY, RACE, SEED, NOISE, GIFT, TRUTH,
)  # fmt: skip
