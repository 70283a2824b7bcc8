"""`jpaged info MODEL`: what a model is and what it needs, without loading its weights."""

import argparse

from jpaged.cli.options import engine_options
from jpaged.config import EngineConfig
from jpaged.engine.build import build_model, plan_sizes
from jpaged.runner.memory import bytes_per_page
from jpaged.weights.functional import num_bytes, num_parameters


def run(args: argparse.Namespace) -> int:
    config = EngineConfig.from_options(args.model, **engine_options(args))
    folder, model = build_model(config)
    sizes = plan_sizes(config, model)
    page_bytes = bytes_per_page(model.kv_spec, sizes.page_size, model.dtype)
    buckets = sizes.buckets
    windows = sorted({spec.window for spec in model.kv_spec if spec.window})
    notes = {each: f" ({count:,} places)" for each, count in sizes.windows}
    seen = [f"{each}{notes.get(each, '')}" for each in windows]
    cache = f"{sizes.num_pages:,} of {sizes.page_size} tokens"
    rows = {
        "folder": folder,
        "model": f"{type(model.config).__name__.removesuffix('Config')}, {model.dtype}",
        "parameters": f"{num_parameters(model.params):,} ({_size(num_bytes(model.params))})",
        "layers": len(model.kv_spec),
        "kv heads x width": f"{model.kv_spec[0].kv_heads} x {model.kv_spec[0].head_dim}",
        "sliding window": ", ".join(seen) or "none",
        "vocabulary": f"{model.vocab:,}",
        "positions": f"{model.max_positions:,} (engine: {sizes.max_model_len:,})",
        "cache a token": _size(page_bytes // sizes.page_size),
        "pages": f"{cache} ({_size(sizes.cache_bytes)})",
        "step shapes": f"{len(buckets.all)}: {' '.join(map(str, buckets.all))}",
    }
    for name, value in rows.items():
        print(f"{name:<18}{value}")
    return 0


def _size(num: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num < 1024 or unit == "GiB":
            return f"{num:.0f} {unit}" if unit == "B" else f"{num:.1f} {unit}"
        num /= 1024
    raise AssertionError("unreachable")
