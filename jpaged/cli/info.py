"""`jpaged info MODEL`, or `show`: what a model is and needs, without loading its weights."""

import argparse
from pathlib import Path

from jpaged.cli.cached import architecture
from jpaged.cli.options import engine_options
from jpaged.cli.tables import size
from jpaged.config import EngineConfig
from jpaged.engine.build import build_model, plan_sizes
from jpaged.engine.defaults import sampling_defaults
from jpaged.runner.memory import bytes_per_page
from jpaged.weights.folder import read_json
from jpaged.weights.functional import num_bytes, num_parameters


def run(args: argparse.Namespace) -> int:
    config = EngineConfig.from_options(args.model, **engine_options(args))
    folder, model = build_model(config, with_weights=False)
    sizes = plan_sizes(config, model)
    page_bytes = bytes_per_page(model.kv_spec, sizes.page_size, model.dtype)
    buckets = sizes.buckets
    windows = sorted({spec.window for spec in model.kv_spec if spec.window})
    notes = {each: f" ({count:,} places)" for each, count in sizes.windows}
    seen = [f"{each}{notes.get(each, '')}" for each in windows]
    cache = f"{sizes.num_pages:,} of {sizes.page_size} tokens"
    family = type(model.config).__name__.removesuffix("Config")
    defaults = sampling_defaults(folder)
    rows = {
        "folder": folder,
        "model": f"{architecture(folder) or family}, {model.dtype}",
        "parameters": f"{num_parameters(model.params):,} ({size(num_bytes(model.params))})",
        "layers": len(model.kv_spec),
        "kv heads x width": f"{model.kv_spec[0].kv_heads} x {model.kv_spec[0].head_dim}",
        "sliding window": ", ".join(seen) or "none",
        "vocabulary": f"{model.vocab:,}",
        "positions": f"{model.max_positions:,} (engine: {sizes.max_model_len:,})",
        "chat template": "yes" if has_chat_template(folder) else "no",
        "sampling": ", ".join(f"{name}={value}" for name, value in defaults.items()) or "as asked",
        "cache a token": size(page_bytes // sizes.page_size),
        "pages": f"{cache} ({size(sizes.cache_bytes)})",
        "step shapes": f"{len(buckets.all)}: {' '.join(map(str, buckets.all))}",
    }
    for name, value in rows.items():
        print(f"{name:<18}{value}")
    return 0


def has_chat_template(folder: Path) -> bool:
    """A file of its own, or a word in the tokenizer's configuration."""
    files = [folder / f"chat_template.{suffix}" for suffix in ("jinja", "json")]
    is_told = bool(read_json(folder, "tokenizer_config.json").get("chat_template"))
    return is_told or any(file.is_file() for file in files)
