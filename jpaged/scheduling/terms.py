"""What is known of a request besides its tokens: whose it is, what was promised, what is expected.

The engine only passes these on: policies act upon them, and reports are made by them.
"""

import math
from dataclasses import dataclass

from jpaged.errors import RequestRejected


@dataclass(frozen=True)
class Terms:
    """client: whose request it is; fairness is between clients.  session: the conversation or
    program it is one turn of.

    Promises, in seconds: ttft from arrival to the first token, tpot for each token thereafter,
    deadline from arrival to the last one.  predicted_tokens: how many it will say, as
    `predicted_by` believes.  None is unknown, or not promised.  Raises `RequestRejected`, naming
    every bad value.
    """

    client: str = ""
    session: str = ""
    ttft: float | None = None
    tpot: float | None = None
    deadline: float | None = None
    predicted_tokens: float | None = None
    predicted_by: str = ""

    def __post_init__(self) -> None:
        # policies compare these for all requests together: a bad one would be everyone's
        texts, numbers = ("client", "session", "predicted_by"), ("ttft", "tpot", "deadline")
        problems = [
            f"{name} must be a string, not {getattr(self, name)!r}"
            for name in texts
            if not isinstance(getattr(self, name), str)
        ]
        problems += [
            f"{name} must be above 0, not {value!r}"
            for name in (*numbers, "predicted_tokens")
            if (value := getattr(self, name)) is not None and not _is_positive(value)
        ]
        if problems:
            raise RequestRejected(f"bad terms: {'; '.join(problems)}")


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0


NO_TERMS = Terms()
