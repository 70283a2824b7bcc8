"""Llama 1-3, Mistral, Qwen2, Qwen3: pre-norm decoders with a gated MLP.

x ── norm ── attention ──(+)── norm ── gated MLP ──(+)──
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx

from jpaged.errors import UnsupportedModel
from jpaged.layers.attention import Attention
from jpaged.layers.linear import Embedding, Linear
from jpaged.layers.mlp import ACTIVATIONS, GatedMLP
from jpaged.layers.norm import RMSNorm
from jpaged.layers.rope import Rope
from jpaged.models.base import run_blocks
from jpaged.models.hf_config import HFConfig

# What transformers assumes where a config.json of that type is silent.
SILENT: dict[str, dict[str, int]] = {
    "llama": {},
    "mistral": {
        "num_key_value_heads": 8,
        "sliding_window": 4096,
        "max_position_embeddings": 131072,
    },
    "qwen2": {
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "max_position_embeddings": 32768,
    },
}
SILENT["qwen3"] = {**SILENT["qwen2"], "head_dim": 128}


@dataclass(frozen=True)
class LlamaConfig:
    vocab: int
    d_model: int
    d_ffn: int
    num_layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rope: Rope
    norm_eps: float
    windows: tuple[int | None, ...]  # per layer: Mistral 7B v0.1, Qwen2 with sliding layers
    activation: str = "silu"
    tied: bool = False
    qkv_bias: bool = False  # Qwen2
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # Qwen3

    @classmethod
    def from_hf(cls, hf: HFConfig) -> "LlamaConfig":
        hf.assume(SILENT[hf.model_type])
        heads, kv_heads, head_dim = _heads(hf)
        has_bias = hf.get("attention_bias", False)
        hf.require("hidden_act", *("silu", *ACTIVATIONS))
        return cls(
            vocab=hf["vocab_size"],
            d_model=hf["hidden_size"],
            d_ffn=hf["intermediate_size"],
            num_layers=hf["num_hidden_layers"],
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            max_positions=hf.get("max_position_embeddings", 2048),
            rope=_rope(hf, head_dim),
            norm_eps=hf.get("rms_norm_eps", 1e-6),
            windows=_windows(hf, hf["num_hidden_layers"]),
            activation=hf.get("hidden_act", "silu"),
            tied=hf.get("tie_word_embeddings", False),
            qkv_bias=has_bias or hf.model_type == "qwen2",
            out_bias=has_bias,
            mlp_bias=hf.get("mlp_bias", False),
            qk_norm=hf.model_type == "qwen3",
        )


def _heads(hf: HFConfig) -> tuple[int, int, int]:
    """Query heads, kv heads and their width."""
    heads = hf["num_attention_heads"]
    kv_heads = hf.get("num_key_value_heads", heads)
    if heads % kv_heads:
        raise UnsupportedModel(
            f"num_attention_heads={heads} cannot share num_key_value_heads={kv_heads} evenly"
        )
    return heads, kv_heads, hf.get("head_dim") or hf.quotient("hidden_size", "num_attention_heads")


def _rope(hf: HFConfig, head_dim: int) -> Rope:
    """Reads both spellings: `rope_theta` with `rope_scaling`, and the newer `rope_parameters`."""
    for key, plain in (
        ("partial_rotary_factor", 1.0),
        ("rope_interleaved", False),
        ("use_mrope", False),
    ):
        hf.require(key, plain)
    old, new = hf.get("rope_scaling"), hf.get("rope_parameters")
    scaling = old or new or {}  # in this order, as in transformers
    outside = hf.get("rope_theta", 10000.0)  # both may be present
    theta = float(scaling.get("rope_theta") or outside)
    return Rope.build(head_dim, theta, scaling, hf.get("max_position_embeddings", 2048))


def _windows(hf: HFConfig, num_layers: int) -> tuple[int | None, ...]:
    """Mistral's window holds for all layers; Qwen's for those that `layer_types` names, or, in
    older checkpoints, from layer `max_window_layers` on."""
    if hf.model_type == "llama":
        hf.require("sliding_window", None)
    window = hf.get("sliding_window")
    num_full = 0 if window else num_layers
    has_choice = hf.model_type in ("qwen2", "qwen3")
    if has_choice:
        window = window if hf.get("use_sliding_window", False) else None
        num_full = min(hf.get("max_window_layers", 28), num_layers)
    usual = ["full_attention"] * num_full + ["sliding_attention"] * (num_layers - num_full)
    kinds = hf.get("layer_types", usual)
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown or len(kinds) != num_layers or (kinds != usual and not has_choice):
        raise UnsupportedModel(
            f"layer_types {sorted(set(kinds))} for {num_layers} layers is not understood "
            f"with model_type {hf.model_type!r} and sliding_window={hf.get('sliding_window')}"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


class LlamaBlock(nnx.Module):
    def __init__(self, cfg: LlamaConfig, window: int | None):
        self.attn_norm = RMSNorm(cfg.d_model, cfg.norm_eps)
        self.attn = Attention(
            cfg.d_model,
            cfg.heads,
            cfg.kv_heads,
            cfg.head_dim,
            rope=cfg.rope,
            window=window,
            qkv_bias=cfg.qkv_bias,
            out_bias=cfg.out_bias,
            qk_norm_eps=cfg.norm_eps if cfg.qk_norm else None,
        )
        self.mlp_norm = RMSNorm(cfg.d_model, cfg.norm_eps)
        self.mlp = GatedMLP(cfg.d_model, cfg.d_ffn, cfg.activation, bias=cfg.mlp_bias)

    def __call__(self, x, table, kv):
        attended, kv = self.attn(self.attn_norm(x), table, kv)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), kv


class Llama(nnx.Module):
    def __init__(self, cfg: LlamaConfig):
        self.embed = Embedding(cfg.vocab, cfg.d_model)
        self.blocks = nnx.List([LlamaBlock(cfg, window) for window in cfg.windows])
        self.norm = RMSNorm(cfg.d_model, cfg.norm_eps)
        self.head = None if cfg.tied else Linear(cfg.d_model, cfg.vocab)

    def __call__(self, tokens, table, kv_pages):
        """Reads and writes the paged cache for one step.

        tokens: i32[T], table: PageTable, kv_pages: one KVPages per block
        -> hidden [T, E], kv_pages
        """
        x, kv_pages = run_blocks(self.blocks, self.embed(tokens), table, kv_pages)
        return self.norm(x), kv_pages

    def logits(self, hidden):
        """hidden: [B, E] -> f32[B, V]"""
        head = self.embed.attend if self.head is None else self.head
        return head(hidden, jnp.float32)

    def kv_spec(self):
        return tuple(block.attn.kv_spec for block in self.blocks)
