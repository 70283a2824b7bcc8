"""Serves requests one after another, so that what the cache finds can be told by looking."""

from collections.abc import Iterable
from dataclasses import replace

from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.workload import TimedRequest


def serve_alone(workload: Iterable[TimedRequest], context: int = 16384) -> Result:
    """Each arrives long after the one before it has ended, and nothing is ever evicted."""
    apart = [replace(each, arrival=1e6 * index) for index, each in enumerate(workload)]
    cost = Constant(step=1e-3)
    return simulate("fcfs", apart, cost, max_model_len=context, num_pages=100_000, page_size=16)


def num_common(first: Iterable[int], second: Iterable[int]) -> int:
    """How many tokens two prompts begin with alike, counted one by one."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            return count
        count += 1
    return count


def num_findable(prompts: list[tuple[int, ...]]) -> list[int]:
    """For each prompt, the most tokens that any earlier one begins with alike; all but the last
    token at most, which is computed for what follows it.

    The engine finds as many where the rest in the last page is a quarter of it at least.
    """
    return [
        min(
            max((num_common(prompt, earlier) for earlier in prompts[:index]), default=0),
            len(prompt) - 1,
        )
        for index, prompt in enumerate(prompts)
    ]
