"""Llama 1-3, Mistral, Qwen2, Qwen3: pre-norm decoders with a gated MLP.

x ── norm ── attention ──(+)── norm ── gated MLP ──(+)──
"""

from dataclasses import dataclass

from flax import nnx

from jpaged.errors import UnsupportedModel
from jpaged.layers.attention import Attention
from jpaged.layers.linear import Embedding, Linear
from jpaged.layers.mlp import ACTIVATIONS, GatedMLP
from jpaged.layers.norm import RMSNorm
from jpaged.layers.rope import Rope
from jpaged.models.base import run_blocks
from jpaged.models.hf_config import HFConfig


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
        heads, num_layers = hf["num_attention_heads"], hf["num_hidden_layers"]
        head_dim = hf.get("head_dim", hf["hidden_size"] // heads)
        has_bias = hf.get("attention_bias", False)
        hf.require("hidden_act", *("silu", *ACTIVATIONS))
        return cls(
            vocab=hf["vocab_size"],
            d_model=hf["hidden_size"],
            d_ffn=hf["intermediate_size"],
            num_layers=num_layers,
            heads=heads,
            kv_heads=hf.get("num_key_value_heads", heads),
            head_dim=head_dim,
            max_positions=hf.get("max_position_embeddings", 2048),
            rope=_rope(hf, head_dim),
            norm_eps=hf.get("rms_norm_eps", 1e-6),
            windows=_windows(hf, num_layers),
            activation=hf.get("hidden_act", "silu"),
            tied=hf.get("tie_word_embeddings", False),
            qkv_bias=has_bias or hf.model_type == "qwen2",
            out_bias=has_bias,
            mlp_bias=hf.get("mlp_bias", False),
            qk_norm=hf.model_type == "qwen3",
        )


def _rope(hf: HFConfig, head_dim: int) -> Rope:
    """Reads both spellings: `rope_theta` with `rope_scaling`, and the newer `rope_parameters`."""
    hf.require("partial_rotary_factor", 1.0)
    scaling = {**(hf.get("rope_scaling") or {}), **(hf.get("rope_parameters") or {})}
    theta = scaling.get("rope_theta") or hf.get("rope_theta", 10000.0)
    hf.get("rope_theta")  # both may be present
    return Rope.build(head_dim, theta, scaling, hf.get("max_position_embeddings", 2048))


def _windows(hf: HFConfig, num_layers: int) -> tuple[int | None, ...]:
    """Mistral's window holds for all layers; Qwen's for those that `layer_types` names, or, in
    older checkpoints, from layer `max_window_layers` on."""
    window = hf.get("sliding_window")
    num_full = 0
    if hf.model_type in ("qwen2", "qwen3"):
        window = window if hf.get("use_sliding_window", False) else None
        num_full = min(hf.get("max_window_layers", 28), num_layers)
    kinds = hf.get("layer_types") or (
        ["full_attention"] * num_full + ["sliding_attention"] * (num_layers - num_full)
    )
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown or len(kinds) != num_layers:
        raise UnsupportedModel(
            f"layer_types {sorted(set(kinds))} for {num_layers} layers is not understood"
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
        """hidden: [B, E] -> [B, V]"""
        return self.embed.attend(hidden) if self.head is None else self.head(hidden)

    def kv_spec(self):
        return tuple(block.attn.kv_spec for block in self.blocks)
