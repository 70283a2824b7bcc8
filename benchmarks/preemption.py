"""What a preemption costs, recomputed or swapped: figure 19 of the PagedAttention paper.

    python benchmarks/preemption.py MODEL [--sizes 1,2,4,8,16,32,64,128] [--rounds 5]

A sequence loses its pages and gets them back: either its tokens run once more, as one prompt, or
its pages go to the host and return.  By turns, on the engine's own step and copies.  Prints JSON.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Callable

import jax
from kernel_switch import both_ways, by_page_size, parse_sizes
from steps import add_prompts, an_engine, seconds_of, take_step
from tqdm import tqdm

NUM_TOKENS = 256  # of the sequence
Ways = dict[str, Callable[[], object]]


def measure_preemption(args: Namespace) -> dict:
    """Milliseconds both ways, on plain XLA and on the C++ kernels."""
    return both_ways(__file__, args)


def measure(args: Namespace) -> dict:
    """Medians over the rounds, in milliseconds, for each page size."""
    ways = {str(size): ways_back(args.model, size) for size in args.sizes}
    rounds = tqdm(range(args.rounds), desc="preemption", unit="round", leave=False)
    times = [
        {size: {name: seconds_of(way) for name, way in each.items()} for size, each in ways.items()}
        for _ in rounds
    ]
    return {
        "preemption": {
            size: {
                name: round(1e3 * statistics.median(each[size][name] for each in times), 3)
                for name in ("recompute", "swap")
            }
            for size in ways
        }
    }


def ways_back(model: str, page_size: int) -> Ways:
    """Computing the sequence's pages once more, and sending them to the host and back."""
    engine = an_engine(
        model,
        page_size=page_size,
        num_pages=4 * NUM_TOKENS // page_size,
        max_model_len=2 * NUM_TOKENS,
        max_num_batched_tokens=NUM_TOKENS,
    )
    add_prompts(engine, 1, NUM_TOKENS)
    step = take_step(engine)
    assert step.spans == ((NUM_TOKENS, NUM_TOKENS),), "a prompt in one step"
    [sequence], executor = engine.scheduler.running, engine.executor
    pages = sequence.pages[: NUM_TOKENS // page_size]

    def swap() -> None:
        executor.host.save(executor.kv_pages, sequence, pages)
        executor.kv_pages = executor.host.restore(executor.kv_pages, sequence, 0, pages)
        jax.block_until_ready(executor.kv_pages)

    return {"recompute": step.run, "swap": swap}


def show_preemption(found: dict) -> tuple[list[str], list[list[str]]]:
    """A table's head and rows: milliseconds, recomputed / swapped."""
    return by_page_size(
        f"{NUM_TOKENS} tokens, ms, recompute / swap",
        found,
        lambda each: f"{each['recompute']:.1f} / {each['swap']:.2f}",
    )


if __name__ == "__main__":
    print(json.dumps(measure(parse_sizes(__doc__))))
