"""Workloads whose answers differ widely: most are short, a few go on and on."""

from typing import Any

from jpaged.simulator import Constant
from jpaged.simulator.lengths import Conversations, Lengths
from jpaged.simulator.workload import TimedRequest, foretold, generate

# a log-spread of 1.5: half of the answers are below 35 tokens, one in a hundred is above 700
HEAVY = Conversations("heavy", Lengths(64, 0.5, 256), Lengths(100, 1.5, 1500))
COST = Constant(0.02, 0.0001)
SEATS: dict[str, Any] = {
    "max_num_seqs": 16,
    "num_pages": 2000,
}  # seats are what is short, not pages


def a_rush(rate: float = 12.0, num_requests: int = 200, seed: int = 0) -> list[TimedRequest]:
    """More than 16 seats can serve (9 requests a second), each with the length it will have."""
    return list(foretold(generate(HEAVY, num_requests, rate, seed)))
