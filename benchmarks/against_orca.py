"""Our engine against itself with Orca's memory: the same model, kernels, steps and cache.

The contestant is the policy `Orca` in its best form, the oracle: it knows every length, and wastes
only what it keeps for later and what its allocator loses.  It is treated kindly: prompts are
computed once for all samples, and beams are reordered without copying, because under its
reservations the engine's pages are still ours.

A cache binds only as long as a larger batch costs little more.  For OPT-13B on an A100 that ends at
100 sequences in a step (26 GB to read at 1.56 TB/s, 26 GFLOP a sequence at half of 312 TFLOP/s),
for a small model on a CPU much sooner, so the cache shrinks with it.
"""

from argparse import Namespace
from collections.abc import Callable

from contest import Served, by_turns, draw, serve, summary

from jpaged import LLMEngine
from jpaged.policies import Orca
from jpaged.simulator.lengths import ALPACA, Conversations, Lengths

NUM_PAGES, NUM_ROWS = 983, 100  # of 16 tokens in the paper's cache; sequences in a step, see above
PAGE_SIZE, MOST_BEAMS = 16, 6
KINDS: dict[str, dict[str, int]] = {
    "basic": {},
    **{f"{n} samples": {"num_samples": n} for n in (2, 4, 6)},
    **{f"{n} beams": {"beam_width": n} for n in (2, 4, 6)},
}
# a sentence in, a sentence out, as in WMT16; what is published is how long the prefixes are
TRANSLATION = Conversations("translation", Lengths(30, 0.5, 64), Lengths(35, 0.5, 64))
PREFIXES = {"one-shot": 80, "five-shot": 341}  # tokens
PAPER_THROUGHPUT = {"basic": "1.3", "6 beams": "2.3"}
PAPER_PREFIX = {"one-shot": "1.67", "five-shot": "3.58"}


def num_pages(args: Namespace) -> int:
    """Of the paper's cache, the share that fills as large a batch for this model."""
    return NUM_PAGES * args.rows // NUM_ROWS


def longest(args: Namespace) -> int:
    """The largest power of two of which Orca can give every beam one."""
    return 1 << (num_pages(args) * PAGE_SIZE // MOST_BEAMS).bit_length() - 1


def an_engine(args: Namespace, **options) -> LLMEngine:
    """Everything is compiled before the first request."""
    return LLMEngine(
        args.model,
        skip_tokenizer_init=True,
        use_tqdm_on_load=False,
        num_pages=num_pages(args),
        max_num_batched_tokens=512,
        warmup="full",
        **options,
    )


def measure_throughput(args: Namespace) -> dict:
    """Requests a second over Orca's for every way of decoding, on texts like Alpaca's; ours under
    two policies."""
    context = longest(args)
    law = ALPACA.shortened(1, context // 2)
    engines = {
        "fcfs": an_engine(args, max_model_len=context),
        "headroom": an_engine(args, max_model_len=context, policy="headroom"),
        "orca": an_engine(args, max_model_len=context, enable_prefix_caching=False),
    }
    found = {}
    for kind, options in KINDS.items():
        engines["orca"].scheduler.policy = Orca(beam_width=options.get("beam_width", 1))
        count = args.sequences // max([1, *options.values()])
        runs = {name: runner(engine, law, count, **options) for name, engine in engines.items()}
        found[kind] = contest(kind, runs, args)
    close(engines)
    return found


def measure_prefix(args: Namespace) -> dict:
    """Requests a second over Orca's where all prompts begin with the same examples."""
    engines = {
        "shared": an_engine(args, max_model_len=512),
        "not shared": an_engine(args, max_model_len=512, enable_prefix_caching=False),
        "orca": an_engine(args, max_model_len=512, enable_prefix_caching=False, policy=Orca()),
    }
    found = {}
    for name, num_shared in PREFIXES.items():
        runs = {
            each: runner(engine, TRANSLATION, args.sequences, shared=num_shared)
            for each, engine in engines.items()
        }
        found[name] = contest(name, runs, args)
    close(engines)
    return found


def runner(
    engine: LLMEngine, law: Conversations, count: int, **options: int
) -> Callable[[int], Served]:
    vocab = engine.model.vocab
    return lambda number: serve(engine, draw(law, count, vocab, f"{number}", **options))


def contest(title: str, runs: dict[str, Callable[[int], Served]], args: Namespace) -> dict:
    return summary(by_turns(title, runs, args.rounds), "orca")


def close(engines: dict[str, LLMEngine]) -> None:
    for engine in engines.values():
        engine.close()


def rows_of(found: dict, paper: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """A table's head and rows: rates over Orca's, sequences in a step."""
    names = [name for name in next(iter(found.values())) if name != "orca"]
    head = ["times Orca's (oracle)", "paper", *names, "sequences in a step"]
    rows = []
    for kind, each in found.items():
        batches = " : ".join(f"{each[name]['num_sequences']:.0f}" for name in (*names, "orca"))
        ratios = [f"**{each[name]['ratio']:.2f}**" for name in names]
        rows.append([kind, paper.get(kind, ""), *ratios, batches])
    return head, rows
