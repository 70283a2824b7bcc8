"""Tiny random checkpoints, written by Hugging Face transformers: the oracle's own format."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig


def save_tiny(
    folder: Path, config: PretrainedConfig, seed: int = 0, dtype: str = "float32"
) -> Path:
    """Writes a random model of this configuration.

    Weights are larger than at initialisation: then attention has structure, and greedy tokens do
    not fall into one repeated token.
    """
    model = random_model(config, seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def random_model(config: PretrainedConfig, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        # norms stay near one; matrices keep the scale of their inputs
        scale = 0.1 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
        keep = parameter.data if parameter.ndim == 1 else 0
        parameter.data = keep + scale * noise
    model.tie_weights()
    return model


def hf_logits(folder: Path, tokens: list[int]) -> torch.Tensor:
    """[T, V] in float32, by transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0]


def hf_greedy(folder: Path, prompt: list[int], count: int) -> list[int]:
    """`count` greedy tokens, by transformers, end-of-sequence ignored."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]
