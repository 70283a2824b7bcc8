"""Requests a second against the page size: figure 18 of the PagedAttention paper.

    python benchmarks/page_sizes.py MODEL [--sizes 1,2,4,8,16,32,64,128] [--rounds 5]

Every engine has as many slots as the others, and shares no prefixes.  Prints JSON.
"""

import json
from argparse import Namespace

from against_orca import close, longest, num_pages, runner
from contest import by_turns, summary
from kernel_switch import both_ways, by_page_size, parse_sizes

from jpaged import LLMEngine
from jpaged.simulator.lengths import ALPACA, SHAREGPT

BASELINE = "16"
MOST = 256  # tokens of a request
SHORTER = 4  # ShareGPT's texts, to fit


def measure_page_sizes(args: Namespace) -> dict:
    """Both traces, on plain XLA and on the C++ kernels."""
    return both_ways(__file__, args)


def measure(args: Namespace) -> dict:
    """For each trace and page size what `summary` tells, against pages of 16."""
    engines = {
        str(size): LLMEngine(
            args.model,
            skip_tokenizer_init=True,
            use_tqdm_on_load=False,
            max_model_len=min(longest(args), MOST),
            page_size=size,
            num_pages=16 * num_pages(args) // size,
            max_num_seqs=64,
            max_num_batched_tokens=MOST,
            enable_prefix_caching=False,
            warmup="full",
        )
        for size in args.sizes
    }
    found = {}
    for law in (ALPACA.shortened(1, MOST // 2), SHAREGPT.shortened(SHORTER, MOST // 2)):
        runs = {size: runner(engine, law, args.sequences) for size, engine in engines.items()}
        found[law.name] = summary(by_turns(law.name, runs, args.rounds), BASELINE)
    close(engines)
    return found


def show_page_sizes(found: dict) -> tuple[list[str], list[list[str]]]:
    """A table's head and rows: rates over those with pages of 16."""
    return by_page_size("rate, against pages of 16", found, lambda each: f"{each['ratio']:.2f}")


if __name__ == "__main__":
    print(json.dumps(measure(parse_sizes(__doc__))))
