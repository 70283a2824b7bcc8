"""GPT-2: learned positions, LayerNorm, a plain MLP.

tokens + positions ── norm ── attention ──(+)── norm ── MLP ──(+)──
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx

from jpaged.layers.attention import Attention
from jpaged.layers.linear import Embedding, Linear
from jpaged.layers.mlp import ACTIVATIONS, MLP
from jpaged.layers.norm import LayerNorm
from jpaged.models.base import run_blocks
from jpaged.models.hf_config import HFConfig


@dataclass(frozen=True)
class GPT2Config:
    vocab: int
    d_model: int
    d_ffn: int
    num_layers: int
    heads: int
    max_positions: int
    norm_eps: float
    activation: str
    tied: bool
    scales: tuple[float, ...]  # of the attention scores, per layer

    @classmethod
    def from_hf(cls, hf: HFConfig) -> "GPT2Config":
        width, heads, num_layers = hf["n_embd"], hf["n_head"], hf["n_layer"]
        head_dim = hf.quotient("n_embd", "n_head")
        hf.require("activation_function", *("gelu_new", *ACTIVATIONS))
        hf.require("add_cross_attention", False)
        hf.get("reorder_and_upcast_attn")  # our scores are float32 in any case
        scale = head_dim**-0.5 if hf.get("scale_attn_weights", True) else 1.0
        by_layer = hf.get("scale_attn_by_inverse_layer_idx", False)
        return cls(
            vocab=hf["vocab_size"],
            d_model=width,
            d_ffn=hf.get("n_inner", 4 * width),
            num_layers=num_layers,
            heads=heads,
            max_positions=hf["n_positions"],
            norm_eps=hf.get("layer_norm_epsilon", 1e-5),
            activation=hf.get("activation_function", "gelu_new"),
            tied=hf.get("tie_word_embeddings", True),
            scales=tuple(scale / (i + 1 if by_layer else 1) for i in range(num_layers)),
        )


class GPT2Block(nnx.Module):
    def __init__(self, cfg: GPT2Config, scale: float):
        self.attn_norm = LayerNorm(cfg.d_model, cfg.norm_eps)
        self.attn = Attention(
            cfg.d_model,
            cfg.heads,
            cfg.heads,
            cfg.d_model // cfg.heads,
            qkv_bias=True,
            out_bias=True,
            scale=scale,
        )
        self.mlp_norm = LayerNorm(cfg.d_model, cfg.norm_eps)
        self.mlp = MLP(cfg.d_model, cfg.d_ffn, cfg.activation)

    def __call__(self, x, table, kv):
        attended, kv = self.attn(self.attn_norm(x), table, kv)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), kv


class GPT2(nnx.Module):
    def __init__(self, cfg: GPT2Config):
        self.embed = Embedding(cfg.vocab, cfg.d_model)
        self.positions = Embedding(cfg.max_positions, cfg.d_model)
        self.blocks = nnx.List([GPT2Block(cfg, scale) for scale in cfg.scales])
        self.norm = LayerNorm(cfg.d_model, cfg.norm_eps)
        self.head = None if cfg.tied else Linear(cfg.d_model, cfg.vocab)

    def __call__(self, tokens, table, kv_pages):
        """tokens: i32[T], table: PageTable, kv_pages -> hidden [T, E], kv_pages"""
        x = self.embed(tokens) + self.positions(table.positions)
        x, kv_pages = run_blocks(self.blocks, x, table, kv_pages)
        return self.norm(x), kv_pages

    def logits(self, hidden):
        """hidden: [B, E] -> [B, V]"""
        head = self.embed.attend if self.head is None else self.head
        return head(hidden, jnp.float32)

    def kv_spec(self):
        return tuple(block.attn.kv_spec for block in self.blocks)
