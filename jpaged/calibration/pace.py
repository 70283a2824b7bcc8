"""How fast this machine is at the moment.

Shared machines have two or three speeds, a third apart, and change between them within minutes.
Costs that were measured at one speed do not foretell another: whoever compares must know.
"""

import time

ROUNDS = 20
COUNT = 20_000


def pace() -> float:
    """Seconds of a fixed piece of plain Python, the best of several tries; takes about 20 ms."""
    return min(_once() for _ in range(ROUNDS))


def _once() -> float:
    start, total = time.perf_counter(), 0
    for number in range(COUNT):
        total += number * number
    return time.perf_counter() - start
