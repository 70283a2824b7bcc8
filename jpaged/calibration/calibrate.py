"""Measures an engine and writes down what its steps cost."""

import gc
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import jax
import numpy as np

from jpaged.calibration.fit import fit, taken
from jpaged.calibration.loads import Loads
from jpaged.calibration.meter import Admitted, Measured, Meter, metered
from jpaged.calibration.pace import pace
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.progress import progress
from jpaged.runner.cores import num_cores
from jpaged.simulator.model_shape import BYTES, ModelShape
from jpaged.simulator.table import FromTable

HELD_OUT = 0.2  # of the steps: the fit does not see them
WARM = 0.05  # of the time: memory is touched for the first time, caches fill
DESIGNED = 0.25  # of the rest, but each shape a few times at least
PLENTY = 50  # mixed steps of a shape


def build_engine(model: str, **options: Any) -> LLMEngine:
    """An engine that neither compiles while it is measured nor turns tokens into text."""
    return LLMEngine(model, **{"skip_tokenizer_init": True, "warmup": "full", **options})


@dataclass(frozen=True)
class Steps:
    """What a calibration measured.  mixed: as users' requests make them.  designed: one after
    another, of every shape; what surrounds them is like nothing that users do.  admitted: the
    requests of the mixed ones."""

    mixed: list[Measured] = field(default_factory=list)
    designed: list[Measured] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)

    def add_mixed(self, meter: Meter) -> None:
        self.mixed.extend(meter.steps)
        self.admitted.extend(meter.admitted)

    @property
    def telling(self) -> list[Measured]:
        """The mixed ones, and designed ones of shapes that these have seldom."""
        seen = Counter(each.shape.bucket for each in self.mixed)
        return self.mixed + [each for each in self.designed if seen[each.shape.bucket] < PLENTY]


def calibrate(engine: LLMEngine, seconds: float = 60.0, seed: int = 0) -> FromTable:
    """What the steps of this engine cost, measured for about so long, on every compiled shape.

    The engine must have nothing to do.  Fit errors in the table are of steps that were held out.
    """
    loads, before = Loads(engine, seed), pace(engine)
    loads.mixed(WARM * seconds)
    with progress(0, "Measuring", "step") as bar:
        table = table_of(engine, measure(loads, (1 - WARM) * seconds, bar.update), seed)
    return replace(table, pace=fmean([before, pace(engine)]))


def measure(
    loads: Loads, seconds: float, on_steps: Callable[[int], object] = lambda num: None
) -> Steps:
    """Measures steps for about so long.  on_steps hears how many there are more, now and then."""
    start = time.perf_counter()
    steps = Steps(designed=watched(loads, loads.designed, DESIGNED * seconds).steps)
    on_steps(len(steps.designed))
    left = max(0.0, seconds - (time.perf_counter() - start))
    steps.add_mixed(watched(loads, loads.mixed, left))
    on_steps(len(steps.mixed))
    return steps


def watched(loads: Loads, run: Callable[[float], object], seconds: float) -> Meter:
    """Who has seen a run of these loads."""
    with frozen(), metered(loads.engine) as meter:
        run(seconds)
        return meter


def table_of(engine: LLMEngine, steps: Steps, seed: int = 0) -> FromTable:
    """The cost table that these steps of an engine give."""
    rng = Random(seed)
    seen, held_out = [], []
    for each in steps.telling:
        (held_out if rng.random() < HELD_OUT else seen).append(each)
    found = fit(seen, engine.sizes.buckets.all, steps.admitted)
    table = FromTable(
        rows=found.rows,
        **found.common,
        **found.host,
        of_model=Path(engine.folder).resolve().name,
        machine=describe_machine(),
        shape=shape_of(engine),
        engine=options_of(engine),
    )
    return with_errors(table, held_out)


def with_errors(table: FromTable, held_out: Sequence[Measured]) -> FromTable:
    """The table with how far it is from steps that it has not seen, by bucket and over all.

    bias: by how much all of them together would take longer, or less long, than they did.
    """
    predicted = np.array([table.seconds(each.shape) for each in held_out])
    spreads = np.array([table.spread(each.shape) for each in held_out])
    measured = taken(held_out, predicted, spreads)
    errors = abs(predicted - measured) / measured
    rows = {}
    for bucket, row in table.rows.items():
        mine = np.array([each.shape.bucket == bucket for each in held_out], bool)
        rows[bucket] = row
        if mine.any():
            rows[bucket] = replace(
                row,
                num_steps=int(mine.sum()),
                error=float(np.median(errors[mine])),
                error_p90=float(np.quantile(errors[mine], 0.9)),
                bias=float(predicted[mine].sum() / measured[mine].sum() - 1),
            )
    return replace(
        table,
        rows=rows,
        error=float(np.median(errors)),
        error_p90=float(np.quantile(errors, 0.9)),
        bias=float(predicted.sum() / measured.sum() - 1),
    )


def shape_of(engine: LLMEngine) -> dict[str, int]:
    """The numbers that tell models apart whose steps cost differently."""
    shape = ModelShape.from_config(engine.folder)
    return asdict(replace(shape, num_bytes=BYTES[str(engine.model.dtype)]))


def options_of(engine: LLMEngine) -> dict[str, Any]:
    """What the engine settled on, by the names of its options."""
    sizes, config = engine.sizes, engine.config
    return {
        "max_model_len": sizes.max_model_len,
        "page_size": sizes.page_size,
        "num_pages": sizes.num_pages,
        "max_num_seqs": sizes.max_num_seqs,
        "max_num_batched_tokens": sizes.max_num_batched_tokens,
        "num_host_pages": sizes.num_host_pages,
        "enable_prefix_caching": config.enable_prefix_caching,
        "enable_chunked_prefill": config.enable_chunked_prefill,
        "async_scheduling": config.async_scheduling,
    }


def describe_machine() -> str:
    device = jax.devices()[0]
    host = f"{platform.system()} {platform.machine()}, {num_cores()} cores"
    return f"{jax.device_count()} x {device.device_kind} ({device.platform}), {host}"


@contextmanager
def frozen() -> Iterator[None]:
    """Without the collector's pauses over all that lives already."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
