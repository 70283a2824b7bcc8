"""Tiny configurations of every family, chosen so that each thing a config can say is said.

Names are `family: what is special`.  All are smaller than a page table: two layers, three at
most, and a prompt longer than any window.
"""

from collections.abc import Callable
from typing import Any

from transformers import (
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

Make = Callable[..., PretrainedConfig]

LLAMA_LIKE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
TOKENS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _llama_like(make: Make, **changes: Any) -> PretrainedConfig:
    return make(**{**LLAMA_LIKE, **TOKENS, **changes})


def _gpt2(**changes: Any) -> PretrainedConfig:
    sizes = {"vocab_size": 128, "n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2Config(**{**sizes, **TOKENS, **changes})


def _opt(**changes: Any) -> PretrainedConfig:
    sizes = {
        "vocab_size": 128,
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    return OPTConfig(**{**sizes, **TOKENS, **changes})


def _rope(**parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": parameters}


LLAMA = {
    "llama: grouped queries": {},
    "llama: multi-head, tied, odd vocabulary": {
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        "vocab_size": 101,
    },
    "llama: multi-query, all biases": {
        "num_key_value_heads": 1,
        "attention_bias": True,
        "mlp_bias": True,
    },
    "llama: wide heads, another activation": {
        "head_dim": 24,
        "vocab_size": 517,
        "hidden_act": "gelu_pytorch_tanh",
    },
    "llama: linear rope": _rope(rope_type="linear", factor=4.0, rope_theta=1000.0),
    "llama: llama3 rope": _rope(**LLAMA3),
    "llama: dynamic rope": _rope(rope_type="dynamic", factor=2.0, rope_theta=10000.0),
    "llama: yarn rope": _rope(**YARN),
}
MISTRAL = {
    "mistral: window": {"sliding_window": 7},
    "mistral: no window": {"sliding_window": None, "rms_norm_eps": 1e-5},
    "mistral: window, wide heads": {"sliding_window": 20, "head_dim": 16, "vocab_size": 101},
}
QWEN2 = {
    "qwen2: biases": {"sliding_window": 4, "use_sliding_window": False},
    "qwen2: tied, odd vocabulary": {"tie_word_embeddings": True, "vocab_size": 517},
    "qwen2: window from a layer on": {
        "num_hidden_layers": 3,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 2,
    },
    "qwen2: window in named layers": {
        "use_sliding_window": True,
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
QWEN3 = {
    "qwen3: wide heads": {"head_dim": 16},
    "qwen3: tied, biases, odd vocabulary": {
        "head_dim": 8,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "vocab_size": 101,
    },
    "qwen3: yarn rope": {
        "head_dim": 16,
        **_rope(**YARN, attention_factor=1.3, beta_fast=16.0, beta_slow=2.0, truncate=False),
    },
}
GPT2 = {
    "gpt2: plain": {},
    "gpt2: scores scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
    "gpt2: scores not scaled": {"scale_attn_weights": False},
    "gpt2: untied, odd vocabulary": {"tie_word_embeddings": False, "vocab_size": 517},
    "gpt2: narrow MLP, another activation": {"n_inner": 40, "activation_function": "relu"},
}
OPT = {
    "opt: like 125m": {},
    "opt: like 350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 24},
    "opt: no biases, another activation": {"enable_bias": False, "activation_function": "gelu"},
    "opt: untied, odd vocabulary": {"tie_word_embeddings": False, "vocab_size": 101},
}

CASES: dict[str, PretrainedConfig] = {
    **{name: _llama_like(LlamaConfig, **each) for name, each in LLAMA.items()},
    **{name: _llama_like(MistralConfig, **each) for name, each in MISTRAL.items()},
    **{name: _llama_like(Qwen2Config, **each) for name, each in QWEN2.items()},
    **{name: _llama_like(Qwen3Config, **each) for name, each in QWEN3.items()},
    **{name: _gpt2(**each) for name, each in GPT2.items()},
    **{name: _opt(**each) for name, each in OPT.items()},
}
