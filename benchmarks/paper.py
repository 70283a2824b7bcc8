"""The figures of the PagedAttention paper, with our scheduler as the subject.

    python benchmarks/paper.py [--parts memory,spread,sampling,beams] [--requests 2000] [--out DIR]
    python benchmarks/paper.py --parts throughput,prefix,page_size,preemption [--model M] [--quick]

Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
SOSP 2023.  The scheduler, page pool and serving loop are the engine's own; a clock that costs a
step replaces the device, and seeded traces the data sets (`jpaged/simulator/lengths.py` says what
is known of them).  The cache is the paper's for OPT-13B on an A100 with 40 GB.

What the cache holds is measured with more requests than can be served, averaged over time from the
first step at which one waits to the last.  What sharing saves is measured at a fifth of that rate,
over the whole run, so that it shows every request from its first token to its last.

The parts that need a model run the real engine, here and now: `against_orca.py`, `page_sizes.py`
and `preemption.py` say what against what.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from against_orca import (
    PAPER_PREFIX,
    PAPER_THROUGHPUT,
    measure_prefix,
    measure_throughput,
    rows_of,
)
from genealogies import WIDTHS, Genealogies
from machine import describe, foreign_load
from matplotlib.figure import Figure
from page_sizes import measure_page_sizes, show_page_sizes
from preemption import measure_preemption, show_preemption
from tqdm import tqdm

from jpaged.analysis.memory import (
    STATES,
    Slots,
    mean_shares,
    pages,
    saved_by_sharing,
    slots,
    slots_in_pieces,
    slots_of,
    while_waiting,
)
from jpaged.analysis.plots import draw_shares
from jpaged.policies import Fcfs, Orca
from jpaged.policies.buddy import rounded
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.cost import StepShape
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.beams import BeamSearches
from jpaged.simulator.lengths import ALPACA, CONTEXT, SHAREGPT, Conversations, Lengths
from jpaged.simulator.replay import Steering, replay
from jpaged.simulator.workload import Workload, generate

PAGE_SIZE, MAX_SEQS = 16, 256
NUM_PAGES = 983  # 12 GiB at 800 KiB a token are 15,728 slots; the paper's table 1 says 15.7K
NUM_SLOTS = NUM_PAGES * PAGE_SIZE
RATES = {SHAREGPT.name: 12.0, ALPACA.name: 120.0}  # requests a second, more than can be served
LIGHT = 0.2  # of these rates, where only sharing is looked at
SAMPLES = WIDTHS  # 2, 4, 6
SPREADS = (0.5, 0.83, 1.2)  # log-spreads of the outputs
# slots that Orca sets aside for (tokens in, tokens out); the last token out is never computed
RESERVATIONS: dict[str, Callable[[int, int], int]] = {
    "max": lambda num_prompt, num_output: CONTEXT,
    "pow2": lambda num_prompt, num_output: num_prompt + rounded(num_output),
    "oracle": lambda num_prompt, num_output: num_prompt + num_output - 1,
}
# percent of the cache: tokens, reserved, internal, external and others (figure 2)
PAPER_STATES = {
    "max": (20.4, 13.3, 57.3, 8.9),
    "pow2": (26.8, 17.9, 13.6, 41.6),
    "oracle": (38.2, 25.2, 0.0, 36.6),
    "paged": (96.3, 0.0, 3.7, 0.0),
}
# percent of pages saved, for 2 and for 6 (figure 15)
PAPER_SAMPLING = {SHAREGPT.name: (16.2, 30.5), ALPACA.name: (6.1, 9.8)}
PAPER_BEAMS = {SHAREGPT.name: (44.3, 66.3), ALPACA.name: (37.6, 55.2)}


def seconds_of(shape: StepShape) -> float:
    """A step of OPT-13B on an A100 by its roofline: 26 GB of weights at 1.56 TB/s or 26 GFLOP a
    token at half of 312 TFLOP/s, whichever is longer, and 0.8 MB of cache a token that is read."""
    return max(17e-3, 0.17e-3 * shape.num_tokens) + 0.5e-6 * shape.num_read


def a_trace(law: Conversations, args: argparse.Namespace) -> Workload:
    """More requests than can be served."""
    return generate(law, args.requests, RATES[law.name], args.seed)


def a_light_trace(law: Conversations, args: argparse.Namespace, width: int, n: int = 1) -> Workload:
    """Requests that become `width` sequences each, so few at a time that nobody is evicted."""
    rate, count = LIGHT * RATES[law.name] / width, max(1, args.requests // width)
    return generate(law, count, rate, args.seed, SamplingParams(n=n, max_tokens=None))


def paged(workload: Workload, steering: Steering | None = None) -> Iterator[StepRecord]:
    scheduler = Scheduler(PagePool(NUM_PAGES, PAGE_SIZE), Fcfs(), max_num_seqs=MAX_SEQS)
    return replay(workload, scheduler, seconds_of, steering=steering)


def orcas(workload: Workload, reservation: str) -> Iterator[Slots]:
    """Every step's accounts under Orca, which reserves what nobody can know but by foresight."""
    slots_for, num_output = RESERVATIONS[reservation], {r.name: r.num_output for r in workload}
    num_final = {r.name: r.num_final - 1 for r in workload}
    orca = Orca(lambda each: slots_for(each.num_prompt, num_output[each.request.id]))
    scheduler = Scheduler(
        PagePool(NUM_PAGES, PAGE_SIZE),
        orca,
        max_num_seqs=MAX_SEQS,
        max_num_batched_tokens=NUM_SLOTS,
        enable_prefix_caching=False,
    )
    for record in replay(workload, scheduler, seconds_of):
        # pieces outlive their request until the next step is made
        final = sum([num_final[name] for name in orca.pieces])
        yield slots_in_pieces(record, final, sum(orca.num_asked.values()), orca.num_given)


def four_allocators(workload: Workload) -> dict[str, dict[str, float]]:
    """The mean shares of each allocator on the same requests."""
    shares = {}
    for name in RESERVATIONS:
        steps = tqdm(orcas(workload, name), desc=name, unit="step", leave=False)
        shares[name] = mean_shares(while_waiting(slots(steps)))
    records = tqdm(paged(workload), desc="paged", unit="step", leave=False)
    shares["paged"] = mean_shares(while_waiting(slots(map(slots_of, records))))
    return shares


def measure_memory(args: argparse.Namespace) -> dict:
    """Figure 2: what the cache holds."""
    shares = four_allocators(a_trace(SHAREGPT, args))
    if args.out is not None:
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        draw_shares(shares, figure.subplots())
        figure.savefig(args.out / "paper-memory.png", dpi=120)
    return {name: percents(row) for name, row in shares.items()}


def show_memory(found: dict) -> str:
    rows = []
    for name, ours in found.items():
        paper = PAPER_STATES[name]
        lost = ours["external"] + ours["free"]
        pairs = zip(paper, (*(ours[state] for state in STATES[:3]), lost), strict=True)
        rows.append([name, *(f"{theirs:.1f} / **{mine:.1f}**" for theirs, mine in pairs)])
    return as_markdown(
        ["paper / **ours**, %", "tokens", "reserved", "internal", "external and others"], rows
    )


def measure_spread(args: argparse.Namespace) -> list[dict]:
    """Figure 2 for outputs that differ less and more: the paper publishes their mean only."""
    rows = []
    for spread in SPREADS:
        outputs = Lengths(SHAREGPT.outputs.mean, spread, SHAREGPT.outputs.most)
        shares = four_allocators(a_trace(replace(SHAREGPT, outputs=outputs), args))
        rows.append({"log_spread": spread, **{k: percents(row) for k, row in shares.items()}})
    return rows


def show_spread(found: list[dict]) -> str:
    rows = [
        [f"{row['log_spread']}", *(f"{row[name]['tokens']:.1f}" for name in PAPER_STATES)]
        for row in found
    ]
    return as_markdown(["log-spread of outputs", *PAPER_STATES], rows)


def measure_sampling(args: argparse.Namespace) -> dict:
    """Figure 15a: the share of pages that n samples of a prompt save by sharing them."""
    return {
        law.name: {
            n: percent_saved(f"{law.name}, n={n}", paged(a_light_trace(law, args, n, n)))
            for n in SAMPLES
        }
        for law in (ALPACA, SHAREGPT)
    }


def measure_beams(args: argparse.Namespace) -> dict:
    """Figure 15b: the share of pages that the beams of a search save by sharing."""
    return {
        law.name: {
            width: percent_saved(f"{law.name}, {width} beams", searched(law, args, width))
            for width in SAMPLES
        }
        for law in (ALPACA, SHAREGPT)
    }


def searched(law: Conversations, args: argparse.Namespace, width: int) -> Iterator[StepRecord]:
    """Every request as a beam search, with the genealogies of a real model."""
    trace = a_light_trace(law, args, width)
    recorded, rng = Genealogies.load(width), Random(f"{args.seed}/beams")
    num_output = {request.name: request.num_output for request in trace}
    return paged(trace, BeamSearches(num_output, lambda: recorded.draw(rng)))


def percent_saved(title: str, records: Iterator[StepRecord]) -> float:
    steps = tqdm(records, desc=title, unit="step", leave=False)
    return round(100 * saved_by_sharing(pages(steps)), 1)


def show_saved(found: dict, paper: dict[str, tuple[float, float]]) -> str:
    rows = [
        [name, "{} - {}".format(*paper[name]), *(f"**{share:.1f}**" for share in ours.values())]
        for name, ours in found.items()
    ]
    return as_markdown(["pages saved, %", "paper, 2 to 6", *map(str, SAMPLES)], rows)


Part = tuple[str, Callable[[argparse.Namespace], object], Callable[..., str]]
PARTS: dict[str, Part] = {
    "memory": ("KV cache that holds tokens (figure 2)", measure_memory, show_memory),
    "spread": ("Tokens, for outputs of other spreads", measure_spread, show_spread),
    "sampling": (
        "Parallel sampling (figure 15a)",
        measure_sampling,
        lambda found: show_saved(found, PAPER_SAMPLING),
    ),
    "beams": (
        "Beam search (figure 15b)",
        measure_beams,
        lambda found: show_saved(found, PAPER_BEAMS),
    ),
    "throughput": (
        "Requests a second, measured (figures 12 and 14)",
        measure_throughput,
        lambda found: as_markdown(*rows_of(found, PAPER_THROUGHPUT)),
    ),
    "prefix": (
        "A shared prefix, measured (figure 16)",
        measure_prefix,
        lambda found: as_markdown(*rows_of(found, PAPER_PREFIX)),
    ),
    "page_size": (
        "Page sizes, measured (figure 18)",
        measure_page_sizes,
        lambda found: as_markdown(*show_page_sizes(found)),
    ),
    "preemption": (
        "Recomputing against swapping, measured (figure 19)",
        measure_preemption,
        lambda found: as_markdown(*show_preemption(found)),
    ),
}
MEASURED = ("throughput", "prefix", "page_size", "preemption")
SIMULATED = [name for name in PARTS if name not in MEASURED]


def percents(shares: dict[str, float]) -> dict[str, float]:
    return {state: round(100 * share, 1) for state, share in shares.items()}


def as_markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default=",".join(SIMULATED))
    parser.add_argument("--requests", type=int, default=2000, help="sequences in a trace")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for a JSON and a plot, such as results/")
    parser.add_argument("--model", default="demo", help="for what is measured; a folder or demo")
    parser.add_argument("--quick", action="store_true", help="measure in two minutes, not twenty")
    args = parser.parse_args()
    # a step of the bundled model begins to cost more at 10 sequences, of the 99M one at 20
    args.rows = 10 if args.model == "demo" else 20
    args.sequences, args.rounds = (180, 2) if args.quick else (360, 3)
    args.parts = args.parts.split(",")
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def main() -> None:
    args = parse_arguments()
    path = None if args.out is None else args.out / "paper.json"
    report = json.loads(path.read_text()) if path and path.exists() else {}
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    report |= {"machine": describe(), "requests": args.requests, "seed": args.seed}
    for name in args.parts:
        title, measure, show = PARTS[name]
        load = foreign_load() if name in MEASURED else 0.0
        found = measure(args)
        if name in MEASURED:  # beside what was found with other models
            model = Path(args.model).name
            report[name] = {**report.get(name, {}), model: found}
            loads = {"before": load, "after": foreign_load()}
            report.setdefault("foreign_load", {})[f"{name}, {model}"] = loads
        else:
            report[name] = found
        print(f"\n### {title}\n\n{show(found)}", flush=True)
        if path is not None:
            path.write_text(json.dumps(report, indent=1) + "\n")
    if path is not None:
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
