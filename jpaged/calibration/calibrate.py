"""Measures an engine and writes down what its steps cost."""

import gc
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import jax
import numpy as np

from jpaged.calibration.fit import fit, telling
from jpaged.calibration.loads import Loads
from jpaged.calibration.meter import Measured, metered
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.progress import progress
from jpaged.simulator.model_shape import BYTES, ModelShape
from jpaged.simulator.table import FromTable

HELD_OUT = 0.2  # of the steps: the fit does not see them
WARM = 0.05  # of the time: memory is touched for the first time, caches fill
DESIGNED = 0.5  # of the rest


def build_engine(model: str, **options: Any) -> LLMEngine:
    """An engine that neither compiles while it is measured nor turns tokens into text."""
    return LLMEngine(model, **{"skip_tokenizer_init": True, "warmup": "full", **options})


def calibrate(engine: LLMEngine, seconds: float = 60.0, seed: int = 0) -> FromTable:
    """What the steps of this engine cost, measured for about so long, on every compiled shape.

    The engine must have nothing to do.  Fit errors in the table are of steps that were held out.
    """
    loads = Loads(engine, seed)
    with frozen(), progress(0, "Measuring", "step") as bar, metered(engine) as meter:
        loads.mixed(WARM * seconds)
        meter.steps.clear()
        start = time.perf_counter()
        loads.designed(
            DESIGNED * (1 - WARM) * seconds, lambda: bar.update(len(meter.steps) - bar.n)
        )
        loads.mixed(max(0.0, (1 - WARM) * seconds - (time.perf_counter() - start)))
        bar.update(len(meter.steps) - bar.n)
    return table_of(engine, meter.steps, seed)


def table_of(engine: LLMEngine, steps: Sequence[Measured], seed: int = 0) -> FromTable:
    """The cost table that these steps of an engine give."""
    rng = Random(seed)
    seen, held_out = [], []
    for each in steps:
        (held_out if rng.random() < HELD_OUT else seen).append(each)
    found = fit(seen, engine.sizes.buckets.all)
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
    held_out = telling(held_out)
    predicted = np.array([table.seconds(each.shape) for each in held_out])
    measured = np.array([each.seconds for each in held_out])
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
    host = f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores"
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
