"""A model's folder -> its structure and parameters.

    config.json ─► abstract model ─► names, shapes, dtypes
    *.safetensors ── converters ──────────┴──► parameters

Nothing is allocated before the names and shapes are known.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from converters import Checkpoint, convert
from jpaged.errors import UnsupportedModel
from jpaged.layers.paged import KVSpec
from jpaged.models import Config, family_of, read_config
from jpaged.models.hf_config import HFConfig
from jpaged.weights.folder import read_json
from jpaged.weights.functional import Graph, Params, abstract_model, merge
from jpaged.weights.orbax import has_saved, restore

COMPUTED = ("float32", "bfloat16", "float16")
OnBytes = Callable[[int, int], None]  # (bytes read now, bytes in all)


@dataclass(frozen=True)
class AbstractModel:
    """A model without its weights: enough to plan memory and to compile."""

    config: Config
    graph: Graph
    params: Params  # shapes
    kv_spec: tuple[KVSpec, ...]
    dtype: jnp.dtype
    eos_token_ids: frozenset[int]

    @property
    def vocab(self) -> int:
        return self.config.vocab

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.params))

    @property
    def max_positions(self) -> int:
        return self.config.max_positions


def read_model(hf: HFConfig, dtype: str = "auto", generation: dict | None = None) -> AbstractModel:
    """Understands a `config.json`.  Raises `UnsupportedModel` for what it does not."""
    family, config = family_of(hf), read_config(hf)
    resolved = _resolve_dtype(hf, dtype)
    graph, params = abstract_model(lambda: family.build(config), resolved)
    eos = _token_ids((generation or {}).get("eos_token_id", hf.values.get("eos_token_id")))
    kv_spec = merge(graph, params).kv_spec()
    return AbstractModel(config, graph, params, kv_spec, resolved, eos)


def read_folder(folder: Path, dtype: str = "auto") -> AbstractModel:
    generation = read_json(folder, "generation_config.json")
    return read_model(HFConfig.load(folder), dtype, generation)


def load_params(
    folder: Path, model: AbstractModel, on_bytes: OnBytes = lambda now, total: None
) -> Params:
    """Reads the weights, converted ones (`save` in orbax.py) where the folder has them."""
    if has_saved(folder):
        return restore(folder, model.params)
    checkpoint = Checkpoint(folder)
    total = checkpoint.num_bytes
    hf = HFConfig.load(folder)
    return convert(
        checkpoint,
        family_of(hf).rules,
        model.params,
        on_tensor=lambda num_bytes: on_bytes(num_bytes, total),
    )


def _token_ids(value: Any) -> frozenset[int]:
    """None, one, or several."""
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(each) is int for each in ids):
        raise UnsupportedModel(f"eos_token_id must be a token id or several, not {value!r}")
    return frozenset(ids)


def _resolve_dtype(hf: HFConfig, dtype: str) -> jnp.dtype:
    """ "auto" follows the checkpoint."""
    if dtype == "auto":
        dtype = hf.values.get("dtype") or hf.values.get("torch_dtype") or "float32"
    name = str(dtype).removeprefix("torch.")
    if name not in COMPUTED:
        raise UnsupportedModel(
            f"the checkpoint's dtype is {dtype}, and we compute in {', '.join(COMPUTED)}; "
            "choose one of these with dtype="
        )
    return jnp.dtype(name)
