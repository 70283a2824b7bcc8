"""Progress bars where somebody watches: on a terminal or in a notebook."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # a notebook without ipywidgets gets plain bars, and need not hear why
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm


def is_watched() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def progress(total: int, what: str, unit: str, shown: bool = True) -> Iterator[tqdm]:
    """A bar over `total` units; bytes are scaled."""
    is_bytes = unit == "B"
    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=is_bytes,
        unit_divisor=1024 if is_bytes else 1000,
        dynamic_ncols=True,
        disable=not (shown and is_watched()),
    ) as bar:
        yield bar
