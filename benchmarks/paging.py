"""What paging and padding cost: empty places in a step, the pool's size, and what batches gain.

    python benchmarks/paging.py MODEL

(a) runs the mixed workload w2 through the engine's scheduler and ladder of buckets, with a filler
in place of the device.  Wasted token slots are what a bucket has beyond the step's tokens.  Wasted
gather width is what attention walks beyond what its queries see, counted for each tile of queries
as the implementation cuts them: in pages, and, because the C++ kernel walks no page in vain, in
keys too.  (b) and (c) time decode steps of the real engine on the device alone, without scheduling
and packing.
"""

import argparse
import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine import describe, foreign_load
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from steps import PreparedStep, add_prompts, an_engine, seconds_of, take_decode
from workloads import ABOUT, workload

from jpaged import LLMEngine
from jpaged.models.loading import AbstractModel, read_folder
from jpaged.policies import Fcfs
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.request import Request
from jpaged.scheduling.scheduler import Scheduler
from jpaged.weights.folder import find_folder
from pallas_kernels.paged_attention.reference import CHUNK, GROUP, KEYS, TILE

RESULTS = Path(__file__).parent / "results"
PAGE_SIZE, NUM_PAGES, MAX_LEN = 16, 16384, 1024
ITEM_ROWS = 24  # of queries and heads: what attention.cc gives an item
LIMITS = {"slots": 0.15, "width": 0.25}
POOLS = (512, 16384)  # pages
POOL_SEQUENCES, POOL_CONTEXT, POOL_RUNS = 32, 192, 40
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)  # sequences
BATCH_CONTEXT, BATCH_ROUNDS = 128, 5


@dataclass(frozen=True)
class Width:
    """Keys and pages that the queries of a step see, and pages that are walked for them."""

    keys: int
    seen: int
    walked: int


class FillerDevice:
    """Answers at once, and notes how wide each step's attention is."""

    def __init__(self, ladder: BucketLadder, group: int):
        self.ladder, self.group = ladder, group
        self.native: list[Width] = []
        self.reference: list[Width] = []

    def bucket(self, batch: ScheduledBatch) -> Bucket:
        return self.ladder.fit(batch)

    def submit(self, batch: ScheduledBatch) -> ScheduledBatch:
        self.native.append(native_width(batch, self.group))
        self.reference.append(reference_width(batch, self.bucket(batch)))
        return batch

    def collect(self, handle: ScheduledBatch) -> StepOutput:
        return StepOutput.filler(handle)


def ends(batch: ScheduledBatch, size: int) -> Iterator[int]:
    """How many keys each tile of `size` queries of one sequence sees, up to its last query."""
    for sequence, count in batch.items:
        for first in range(0, count, size):
            yield sequence.num_computed + min(first + size, count)


def pages_for(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_SIZE)


def native_width(batch: ScheduledBatch, group: int) -> Width:
    """The C++ kernel walks what each item sees, a tile of 16 keys at a time: a page here."""
    seen = list(ends(batch, max(1, ITEM_ROWS // group)))
    pages = sum(map(pages_for, seen))
    return Width(sum(seen), pages, pages)


def reference_width(batch: ScheduledBatch, bucket: Bucket) -> Width:
    """XLA walks with a group of tiles as far as the longest of them, in chunks."""
    size = 1 if bucket.is_decode else TILE
    tiles = bucket.num_tokens // size + (0 if bucket.is_decode else bucket.num_sequences)
    group = min(GROUP, tiles)
    chunk = min(KEYS // group, CHUNK)
    seen = sorted(ends(batch, size), reverse=True)
    walked = sum(group * -(-longest // chunk) * chunk for longest in seen[::group])
    return Width(sum(seen), sum(map(pages_for, seen)), walked // PAGE_SIZE)


def run_on_host(group: int) -> tuple[list[StepRecord], FillerDevice]:
    """All steps of w2, as the engine would run them with everything compiled."""
    device = FillerDevice(BucketLadder.build(2048, 128, MAX_LEN // PAGE_SIZE), group)
    scheduler = Scheduler(PagePool(NUM_PAGES, PAGE_SIZE), Fcfs())
    for i, each in enumerate(workload("w2", 0)):
        params = SamplingParams(temperature=0, max_tokens=each["out"], ignore_eos=True)
        scheduler.add(Request(str(i), tuple(each["prompt"]), params, max_tokens=each["out"]))
    records: list[StepRecord] = []
    loop = ServingLoop(scheduler, device, lambda: 0.0, records.append, ahead=1)
    while scheduler.has_unfinished:
        loop.step()
    return records, device


def measure_padding(model: AbstractModel) -> dict:
    """Shares wasted, of decode steps, of mixed ones, and of all."""
    records, device = run_on_host(model.config.heads // model.kv_spec[0].kv_heads)
    found = {}
    for kind in ("decode", "mixed", "all"):
        chosen = [i for i, record in enumerate(records) if kind in ("all", kind_of(record))]
        slots = [(records[i].num_tokens, room_of(records[i])) for i in chosen]
        native, reference = (
            [each[i] for i in chosen] for each in (device.native, device.reference)
        )
        found[kind] = {
            "steps": len(chosen),
            "slots_by_step": statistics.mean(1 - used / room for used, room in slots),
            "slots": wasted(slots),
            "native_pages": wasted([(width.seen, width.walked) for width in native]),
            "native_keys": wasted([(width.keys, PAGE_SIZE * width.walked) for width in native]),
            "reference_pages": wasted([(width.seen, width.walked) for width in reference]),
        }
    return found


def kind_of(record: StepRecord) -> str:
    return "decode" if record.num_tokens == record.num_sequences else "mixed"


def room_of(record: StepRecord) -> int:
    assert record.bucket is not None
    return record.bucket.num_tokens


def wasted(pairs: list[tuple[int, int]]) -> float:
    """The share of all room that is not used."""
    return 1 - sum(used for used, _ in pairs) / sum(room for _, room in pairs)


def measure_pools(model: str) -> list[dict]:
    """Milliseconds of the same decode step in a small and in a large pool, alternately."""
    steps = {num_pages: pool_steps(model, num_pages) for num_pages in POOLS}
    rows = []
    for order in ("in a row", "scattered"):
        times: dict[int, list[float]] = {num_pages: [] for num_pages in POOLS}
        for _ in range(POOL_RUNS):
            for num_pages in POOLS:
                times[num_pages].append(1e3 * steps[num_pages][order].run())
        small, large = (statistics.median(times[num_pages]) for num_pages in POOLS)
        rows.append({"pages": order, "small_ms": small, "large_ms": large, "ratio": large / small})
    for each in steps.values():
        each["scattered"].engine.close()
    return rows


def pool_steps(model: str, num_pages: int) -> dict[str, PreparedStep]:
    """A step whose sequences got the pool's first pages, and one as after long use: there a
    sequence's pages lie anywhere."""
    engine = an_engine(model, num_pages=num_pages, max_num_seqs=POOL_SEQUENCES)
    first = pool_step(engine)
    for sequence in list(engine.scheduler.running):
        engine.scheduler.abort(sequence.request.id)
    pool = engine.scheduler.pool
    pages = pool.allocate(num_pages)
    random.Random(0).shuffle(pages)
    pool.release(pages)
    return {"in a row": first, "scattered": pool_step(engine)}


def pool_step(engine: LLMEngine) -> PreparedStep:
    add_prompts(engine, POOL_SEQUENCES, POOL_CONTEXT)
    return take_decode(engine, POOL_SEQUENCES)


def measure_batches(model: str) -> list[dict]:
    """Tokens a second of decode steps with more and more sequences, measured in turn."""
    engine = an_engine(model, num_pages=16 * max(BATCHES))
    steps: dict[int, PreparedStep] = {}
    for before, now in zip((0, *BATCHES), BATCHES, strict=False):
        add_prompts(engine, now - before, BATCH_CONTEXT, first=before)
        steps[now] = take_decode(engine, now)
    times: dict[int, list[float]] = {now: [] for now in BATCHES}
    for _ in range(BATCH_ROUNDS):
        for now, step in steps.items():
            times[now].append(seconds_of(step.run))
    engine.close()
    seconds = {now: statistics.median(each) for now, each in times.items()}
    return [
        {
            "sequences": now,
            "bucket": str(steps[now].bucket),
            "longest": max(length for _, length in steps[now].spans),
            "ms": 1e3 * seconds[now],
            "tokens_per_s": now / seconds[now],
        }
        for now in BATCHES
    ]


def plot(rows: list[dict], name: str, path: Path) -> None:
    """Tokens a second against sequences, beside what as many single ones would give together."""
    sequences = [row["sequences"] for row in rows]
    rates = [row["tokens_per_s"] for row in rows]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(sequences, rates, "o-", label="measured")
    ideal = [rates[0] * count for count in sequences]
    axes.plot(sequences, ideal, "--", color="grey", label="if every step took as long as of one")
    for count, rate in zip(sequences, rates, strict=True):
        place = {"xytext": (0, -15), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{rate:,.0f}", (count, rate), **place)
    ticks = [first * 10**power for power in range(7) for first in (1, 2, 5)]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sequences, [str(count) for count in sequences])
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.8, 1.3 * sequences[-1])
    axes.set_ylim(0.6 * min(rates), 4 * max(rates))
    axes.set_xlabel("sequences in a decode step")
    axes.set_ylabel("tokens/s")
    axes.set_title(f"What a batch gains ({name}, about {rows[-1]['longest']} tokens each)")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)


def padding_table(found: dict) -> str:
    lines = [
        f"| w2 {ABOUT['w2'].split(': ')[1]} | steps | token slots, mean of steps | of all slots "
        "| gather width, C++ | in keys | gather width, XLA |",
        "|---|---|---|---|---|---|---|",
    ]
    columns = ("slots_by_step", "slots", "native_pages", "native_keys", "reference_pages")
    for kind, row in found.items():
        cells = " | ".join(f"{row[name]:.1%}" for name in columns)
        lines.append(f"| {kind} | {row['steps']} | {cells} |")
    limits = [f"{LIMITS[name]:.0%}" for name in ("slots", "slots", "width", "width", "width")]
    return "\n".join([*lines, f"| limit | | {' | '.join(limits)} |"])


def pool_table(rows: list[dict]) -> str:
    lines = [
        f"| decode step of {POOL_SEQUENCES}, their pages | ms, {POOLS[0]} pages "
        f"| ms, {POOLS[1]} pages | ratio, about 1 |",
        "|---|---|---|---|",
    ]
    for row in rows:
        cells = f"{row['small_ms']:.2f} | {row['large_ms']:.2f} | {row['ratio']:.3f}"
        lines.append(f"| {row['pages']} | {cells} |")
    return "\n".join(lines)


def batch_table(rows: list[dict]) -> str:
    lines = ["| sequences | bucket | ms | tokens/s |", "|---|---|---|---|"]
    for row in rows:
        cells = f"{row['ms']:.2f} | {row['tokens_per_s']:,.0f}"
        lines.append(f"| {row['sequences']} | {row['bucket']} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a checkpoint folder, or demo")
    args = parser.parse_args()
    load = foreign_load()
    padding = measure_padding(read_folder(find_folder(args.model)))
    pools = measure_pools(args.model)
    batches = measure_batches(args.model)
    report = {
        "machine": describe(),
        "model": Path(args.model).name,
        "foreign_load": {"before": load, "after": foreign_load()},
        "padding": padding,
        "pools": pools,
        "batches": batches,
    }
    rounded = json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 4))
    (RESULTS / "paging.json").write_text(json.dumps(rounded, indent=1) + "\n")
    plot(batches, report["model"], RESULTS / "batch.png")
    print(padding_table(padding), pool_table(pools), batch_table(batches), sep="\n\n")


if __name__ == "__main__":
    main()
