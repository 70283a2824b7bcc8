"""Published models are understood and their steps traced, from their config.json alone.

Nothing is downloaded and no weight exists: a step is lowered for shapes.
"""

import os
import time
from pathlib import Path

import jax
import pytest

from jpaged.models.hf_config import HFConfig
from jpaged.models.loading import AbstractModel, read_model
from jpaged.runner.program import StepProgram
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import Bucket
from jpaged.weights.functional import num_bytes, num_parameters

# the files as published, all keys of them
LLAMA_31_8B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
QWEN3_06B = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}
OPT_125M = {
    "_name_or_path": "facebook/opt-125m",
    "activation_dropout": 0.0,
    "activation_function": "relu",
    "architectures": ["OPTForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "do_layer_norm_before": True,
    "dropout": 0.1,
    "eos_token_id": 2,
    "ffn_dim": 3072,
    "hidden_size": 768,
    "init_std": 0.02,
    "layerdrop": 0.0,
    "max_position_embeddings": 2048,
    "model_type": "opt",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "prefix": "</s>",
    "torch_dtype": "float16",
    "transformers_version": "4.21.0.dev0",
    "use_cache": True,
    "vocab_size": 50272,
    "word_embed_proj_dim": 768,
}
REAL = {
    "Llama-3.1-8B": LLAMA_31_8B,
    "Qwen3-0.6B": QWEN3_06B,
    "GPT-2": GPT2,
    "OPT-125m": OPT_125M,
}
PUBLISHED = {"Llama-3.1-8B": 8.03e9, "Qwen3-0.6B": 0.596e9, "GPT-2": 124.4e6, "OPT-125m": 125.2e6}
NUM_PAGES, PAGE_SIZE = 4096, 16


def parameters_of(hf: dict) -> int:
    """Counts what the papers draw, from the file alone."""
    if hf["model_type"] in ("gpt2", "opt"):
        width, layers = hf.get("n_embd") or hf["hidden_size"], hf.get("n_layer") or 12
        # OPT's table of positions has two rows more than positions
        rows = hf["vocab_size"] + (hf.get("n_positions") or hf["max_position_embeddings"] + 2)
        # four matrices of attention and twice 4E of MLP, with biases; two norms a block, one last
        block = 12 * width**2 + (4 + 4 + 1) * width + 4 * width
        return rows * width + layers * block + 2 * width
    width, head = hf["hidden_size"], hf.get("head_dim", 128)
    heads, kv_heads = hf["num_attention_heads"], hf["num_key_value_heads"]
    attention = 2 * width * head * (heads + kv_heads)
    qk_norm = 2 * head if hf["model_type"] == "qwen3" else 0
    block = attention + qk_norm + 3 * width * hf["intermediate_size"] + 2 * width
    embeddings = (1 if hf["tie_word_embeddings"] else 2) * hf["vocab_size"] * width
    return embeddings + hf["num_hidden_layers"] * block + width


def program_of(model: AbstractModel) -> StepProgram:
    packer = StepPacker(NUM_PAGES, PAGE_SIZE, model.vocab, max_model_len=1024, max_num_seqs=8)
    return StepProgram(model.graph, model.params, model.kv_spec, packer, model.dtype, 20)


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("name", REAL)
def test_parameters_are_as_many_as_published(name: str):
    count = num_parameters(read_model(HFConfig(REAL[name])).params)

    assert count == parameters_of(REAL[name])
    assert count == pytest.approx(PUBLISHED[name], rel=1e-3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to see its memory")
@pytest.mark.parametrize("name", REAL)
def test_a_step_is_lowered_without_weights(name: str):
    before, start = resident_bytes(), time.perf_counter()
    model = read_model(HFConfig(REAL[name]))
    program = program_of(model)

    decode = program.lower(Bucket(8, 8, 64))
    mixed = program.lower(Bucket(128, 8, 64))

    grown = resident_bytes() - before
    print(f"{name}: {time.perf_counter() - start:.1f} s, {grown >> 20} MiB more")
    assert jax.tree.leaves(decode.out_info)[-1].shape[0] == 8
    assert jax.tree.leaves(mixed.out_info)[-1].shape[0] == 128
    assert grown < num_bytes(model.params) / 2
