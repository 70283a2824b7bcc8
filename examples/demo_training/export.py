"""Writes a trained model as a Hugging Face folder that `LlamaForCausalLM` loads."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PathParts
from safetensors.flax import load_file, save
from tokenizers import Tokenizer

from demo_training.model import DemoConfig
from demo_training.tokenizer import END_OF_TEXT, END_OF_TURN, PADDING, save_tokenizer


def export_folder(
    folder: Path, params: nnx.State, config: DemoConfig, tokenizer: Tokenizer
) -> None:
    """Writes weights, configuration, generation defaults and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save(named_tensors(params), metadata={"format": "pt"})
    (folder / "model.safetensors").write_bytes(weights)
    save_tokenizer(tokenizer, folder, config.max_position_embeddings)
    end = tokenizer.token_to_id(END_OF_TEXT)
    ends = [end, tokenizer.token_to_id(END_OF_TURN)]
    padding = tokenizer.token_to_id(PADDING)
    ids = {"bos_token_id": end, "eos_token_id": ends, "pad_token_id": padding}
    write_json(folder / "config.json", llama_config(config) | ids)
    # warm enough that two stories differ, cool enough that sums come out right
    how = {"do_sample": True, "temperature": 0.5, "top_p": 0.95}
    write_json(folder / "generation_config.json", ids | how)


def named_tensors(params: nnx.State) -> dict[str, jax.Array]:
    """Gives every parameter its Hugging Face name, `[out, in]` layout and bfloat16."""
    tensors = {}
    for path, leaf in nnx.to_flat_state(params):
        value = leaf[...].astype(jnp.bfloat16)
        tensors[tensor_name(path)] = value.T if path[-1] == "kernel" else value
    return tensors


def tensor_name(path: PathParts) -> str:
    """The Hugging Face name of a parameter: its path, but for the last word."""
    modules = [str(part) for part in path[:-1]]
    return ".".join([*([] if modules == ["lm_head"] else ["model"]), *modules, "weight"])


def load_params(folder: Path, params: nnx.State) -> nnx.State:
    """Reads back what `named_tensors` wrote, into parameters of the same shapes."""
    saved = load_file(folder / "model.safetensors")
    leaves = []
    for path, leaf in nnx.to_flat_state(params):
        value = saved[tensor_name(path)].astype(leaf[...].dtype)
        leaves.append((path, leaf.replace(value.T if path[-1] == "kernel" else value)))
    return nnx.from_flat_state(leaves)


def llama_config(config: DemoConfig) -> dict[str, object]:
    """The configuration as Hugging Face's Llama knows it."""
    fixed = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "use_cache": True,
        "torch_dtype": "bfloat16",
    }
    return fixed | asdict(config)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")
