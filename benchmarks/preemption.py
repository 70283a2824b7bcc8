"""What a preemption costs, recomputed or swapped: figure 19 of the PagedAttention paper.

    python benchmarks/preemption.py MODEL [--sizes 1,2,4,8,16,32,64,128] [--rounds 5]

Of one sequence: it loses its pages and gets them back, either its tokens run once more, as one
prompt, or its pages go to the host and return; by turns, on the engine's own step and copies.  And
end to end: requests a second of engines whose cache is so small that somebody is evicted all the
time, and either computes again or comes back from the host.  Prints JSON.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Callable

import jax
from against_orca import close, num_pages, runner
from contest import by_turns, summary
from kernel_switch import both_ways, by_page_size, parse_sizes
from page_sizes import MOST
from steps import add_prompts, an_engine, seconds_of, take_step
from tqdm import tqdm

from jpaged import LLMEngine
from jpaged.simulator.lengths import ALPACA

NUM_TOKENS = 256  # of the sequence
BASELINE = "16 recompute"
Ways = dict[str, Callable[[], object]]


def measure_preemption(args: Namespace) -> dict:
    """Milliseconds both ways, on plain XLA and on the C++ kernels."""
    return both_ways(__file__, args)


def measure(args: Namespace) -> dict:
    return {"one sequence": measure_one(args), "end to end": measure_serving(args)}


def measure_serving(args: Namespace) -> dict:
    """For each page size, requests a second by both ways, over those of recomputing with pages of
    16, and how often somebody was evicted."""
    law = ALPACA.shortened(1, MOST // 2)
    modes = {"recompute": {}, "swap": {"num_host_pages": 4}}
    engines = {
        f"{size} {mode}": LLMEngine(
            args.model,
            skip_tokenizer_init=True,
            use_tqdm_on_load=False,
            max_model_len=MOST,
            page_size=size,
            num_pages=16 * num_pages(args) // size,
            max_num_batched_tokens=MOST,
            enable_prefix_caching=False,
            warmup="full",
            **{name: share * 16 * num_pages(args) // size for name, share in host.items()},
        )
        for size in args.sizes
        for mode, host in modes.items()
    }
    runs = {name: runner(engine, law, args.sequences) for name, engine in engines.items()}
    found = summary(by_turns("end to end", runs, args.rounds), BASELINE)
    close(engines)
    return {
        str(size): {mode: found[f"{size} {mode}"]["ratio"] for mode in modes}
        | {"num_preempted": found[f"{size} recompute"]["num_preempted"]}
        for size in args.sizes
    }


def measure_one(args: Namespace) -> dict:
    """Medians over the rounds, in milliseconds, for each page size."""
    ways = {str(size): ways_back(args.model, size) for size in args.sizes}
    rounds = tqdm(range(args.rounds), desc="preemption", unit="round", leave=False)
    times = [
        {size: {name: seconds_of(way) for name, way in each.items()} for size, each in ways.items()}
        for _ in rounds
    ]
    return {
        size: {
            name: round(1e3 * statistics.median(each[size][name] for each in times), 3)
            for name in ("recompute", "swap")
        }
        for size in ways
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
    pages = [sequence.pages[: NUM_TOKENS // page_size]]  # of the one kind of layers

    def swap() -> None:
        executor.host.save(executor.kv_pages, sequence, pages)
        executor.kv_pages = executor.host.restore(executor.kv_pages, sequence, 0, pages)
        jax.block_until_ready(executor.kv_pages)

    return {"recompute": step.run, "swap": swap}


def show_preemption(found: dict) -> tuple[list[str], list[list[str]]]:
    """A table's head and rows: milliseconds, and rates, recomputed / swapped."""
    return by_page_size(
        f"recompute / swap: {NUM_TOKENS} tokens, ms; end to end, rate over pages of 16",
        found,
        lambda each: f"{each['recompute']:.2f} / {each['swap']:.2f}",
    )


if __name__ == "__main__":
    print(json.dumps(measure(parse_sizes(__doc__))))
