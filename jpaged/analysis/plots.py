"""The tables of `memory`, drawn."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from jpaged.analysis.memory import PAGES, STATES

PAGE_COLOURS = ("#2b6cb0", "#90cdf4", "#edf2f7")
STATE_COLOURS = ("#2f855a", "#ecc94b", "#e53e3e", "#a0aec0", "#edf2f7")


def draw_pages(table: pd.DataFrame, axes: Axes) -> None:
    """Pages over time as a stack of held, idle and free; a line for what sharing saves on top."""
    layers = [table[name] for name in PAGES]
    labels = [name.removeprefix("pages_") for name in PAGES]
    axes.stackplot(table.end, *layers, labels=labels, colors=PAGE_COLOURS, step="post")
    if table.pages_saved.any():
        axes.plot(table.end, table.pages_unshared, "k:", lw=1, label="held without sharing")
    axes.set(xlabel="seconds", ylabel="pages", xlim=(table.end.iloc[0], table.end.iloc[-1]))
    axes.legend(loc="lower right")


def draw_shares(shares: Mapping[str, Mapping[str, float]], axes: Axes) -> None:
    """A bar for each allocator, from its `mean_shares`; the paper's figure 2."""
    bottoms = [0.0] * len(shares)
    for state, colour in zip(STATES, STATE_COLOURS, strict=True):
        heights = [100 * share[state] for share in shares.values()]
        bars = axes.bar(list(shares), heights, 0.6, bottoms, label=state, color=colour)
        # a number wants room: thinner layers go without
        labels = [f"{height:.1f}" if height >= 3 else "" for height in heights]
        axes.bar_label(bars, labels, label_type="center", fontsize=8)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set(ylabel="KV cache, %", ylim=(0, 100))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
