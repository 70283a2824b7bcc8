"""A format of four tensors, a model that it fits, and folders that hold it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from converters import Rule, Table
from converters.rules import keep, split_in_three

INDEX = "model.safetensors.index.json"
TABLE = Table(
    (
        Rule("embed.weight", "embed.weight", keep),
        Rule("h.{i}.{p:up|down}.weight", "blocks.{i}.{p}.weight"),
        Rule("h.{i}.qkv", ("blocks.{i}.q", "blocks.{i}.k", "blocks.{i}.v"), split_in_three),
        Rule("lm_head.weight", "head.weight", optional=True),
    ),
    prefix="model.",
    ignored=r".*\.inv_freq",
)


def tensors() -> dict[str, np.ndarray]:
    """Every value is another, so that a mistake of place shows."""
    counts = np.arange(6 + 8 + 8 + 6, dtype=np.float32)
    embed, up, down, qkv = np.split(counts, [6, 14, 22])
    return {
        "model.embed.weight": embed.reshape(3, 2),
        "model.h.0.up.weight": up.reshape(4, 2),
        "model.h.0.down.weight": down.reshape(2, 4),
        "model.h.0.qkv": qkv,
    }


def abstract(dtype: str = "float32") -> dict:
    """Shapes of the model; weights lie [in, out]."""

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype))

    block = {"up": {"weight": shape(2, 4)}, "down": {"weight": shape(4, 2)}}
    block |= {"q": shape(2), "k": shape(2), "v": shape(2)}
    return {"embed": {"weight": shape(3, 2)}, "blocks": {"0": block}}


def save_single(folder: Path, values: dict[str, np.ndarray]) -> Path:
    save_file(values, folder / "model.safetensors")
    return folder


def save_sharded(folder: Path, values: dict[str, np.ndarray], num_shards: int = 2) -> Path:
    """Tensors are dealt to the shards in turn."""
    names = [f"model-{i:05}-of-{num_shards:05}.safetensors" for i in range(num_shards)]
    place = {name: names[i % num_shards] for i, name in enumerate(values)}
    for file in names:
        save_file({name: values[name] for name in values if place[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder
