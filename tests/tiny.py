"""Tiny random checkpoints, written by Hugging Face transformers: the oracle's own format."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig

# the matrices are tiny: waking other threads costs more than they do
torch.set_num_threads(1)


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


def random_model(config: PretrainedConfig, seed: int = 0) -> Any:
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


def load_hf(folder: Path, dtype: str = "float32") -> Any:
    """The checkpoint as transformers reads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()


def logits_of(model: Any, tokens: list[int]) -> torch.Tensor:
    """[T, V] in float32."""
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


def greedy_of(model: Any, prompt: list[int], count: int) -> tuple[list[int], float]:
    """`count` greedy tokens, end-of-sequence ignored, and by how much the closest of these
    choices was won: a margin near zero is a tie that rounding decides."""
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=count,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    model.generation_config = settings  # or generate() stops at the checkpoint's end-of-sequence
    # a mask of ones says that no prompt token is padding, whatever its id
    ids = torch.tensor([prompt])
    out = model.generate(ids, settings, attention_mask=torch.ones_like(ids))
    best, second = torch.stack(out.logits).topk(2).values.unbind(-1)
    return out.sequences[0, len(prompt) :].tolist(), float((best - second).min())


def hf_logits(folder: Path, tokens: list[int]) -> torch.Tensor:
    """[T, V] in float32, by transformers."""
    return logits_of(load_hf(folder), tokens)


def hf_greedy(folder: Path, prompt: list[int], count: int) -> list[int]:
    """`count` greedy tokens, by transformers, end-of-sequence ignored."""
    return greedy_of(load_hf(folder), prompt, count)[0]
