"""Writes the random model that the benchmarks run: a bf16 Llama of 99M parameters.

    python benchmarks/make_model.py FOLDER       then  python benchmarks/offline.py FOLDER …

Speed does not depend on what weights say; random ones need no download.  Needs PyTorch.
"""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}

if __name__ == "__main__":
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).to(torch.bfloat16)
    model.save_pretrained(sys.argv[1])
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters in {sys.argv[1]}")
