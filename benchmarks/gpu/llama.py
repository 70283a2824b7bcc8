"""The model that engines are compared on: Llama-3.1-8B's shape with random weights."""

import json
from pathlib import Path

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
TOY = LLAMA | {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
DEVIATION = 0.02  # of the weights
# offline workloads: requests, tokens in each prompt, tokens generated from it
WORKLOADS = ((32, 512, 128), (256, 512, 128), (128, 512, 128), (1, 512, 128))
TOY_WORKLOADS = ((2, 24, 4),)


def write_config(folder: Path, is_dry: bool) -> Path:
    """A model folder without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TOY if is_dry else LLAMA))
    return folder


def prompts(count: int, length: int, is_dry: bool) -> list[list[int]]:
    """The same for every engine."""
    import numpy as np

    vocab = (TOY if is_dry else LLAMA)["vocab_size"]
    return np.random.default_rng(count).integers(3, vocab - 1, (count, length)).tolist()


def name_of(workload: tuple[int, int, int]) -> str:
    return "offline {} x {} in x {} out".format(*workload)
