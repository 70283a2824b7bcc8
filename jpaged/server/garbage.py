"""Python's collector of cycles, in a process that serves."""

import gc

THRESHOLDS = 50_000, 20, 20


def settle() -> None:
    """What is there by now stays: to look through it again and again would take a tenth of a second
    each time, in the middle of a step, and hold every stream up.  And a step of a thousand streams
    makes and drops more objects than Python expects of leaks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
