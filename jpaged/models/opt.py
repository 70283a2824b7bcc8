"""OPT: learned positions with an offset, ReLU, and the norm before or after its box.

x ── norm ── attention ──(+)── norm ── MLP ──(+)──      125m, 1.3b and up
x ── attention ──(+)── norm ── MLP ──(+)── norm ──      350m, with narrower embeddings
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

POSITION_OFFSET = 2  # the first two rows of the table are never used (padding, in fairseq)
NORM_EPS = 1e-5


@dataclass(frozen=True)
class OPTConfig:
    vocab: int
    d_model: int
    d_embed: int  # word_embed_proj_dim
    d_ffn: int
    num_layers: int
    heads: int
    max_positions: int
    activation: str
    norm_first: bool
    final_norm: bool
    bias: bool
    tied: bool

    @classmethod
    def from_hf(cls, hf: HFConfig) -> "OPTConfig":
        hf.require("activation_function", *("relu", *ACTIVATIONS))
        hf.require("layer_norm_elementwise_affine", True)
        hf.require("learned_embeddings", True)  # Galactica names them; transformers knows no other
        hf.require("scale_embeddings", False)
        hf.quotient("hidden_size", "num_attention_heads")
        norm_first = hf.get("do_layer_norm_before", True)
        lacks_final = hf.get("_remove_final_layer_norm", False)
        return cls(
            vocab=hf["vocab_size"],
            d_model=hf["hidden_size"],
            d_embed=hf.get("word_embed_proj_dim", hf["hidden_size"]),
            d_ffn=hf["ffn_dim"],
            num_layers=hf["num_hidden_layers"],
            heads=hf["num_attention_heads"],
            max_positions=hf["max_position_embeddings"],
            activation=hf.get("activation_function", "relu"),
            norm_first=norm_first,
            final_norm=norm_first and not lacks_final,
            bias=hf.get("enable_bias", True),
            tied=hf.get("tie_word_embeddings", True),
        )


class OPTBlock(nnx.Module):
    def __init__(self, cfg: OPTConfig):
        self.norm_first = cfg.norm_first
        self.attn_norm = LayerNorm(cfg.d_model, NORM_EPS)
        self.attn = Attention(
            cfg.d_model,
            cfg.heads,
            cfg.heads,
            cfg.d_model // cfg.heads,
            qkv_bias=cfg.bias,
            out_bias=cfg.bias,
        )
        self.mlp_norm = LayerNorm(cfg.d_model, NORM_EPS)
        self.mlp = MLP(cfg.d_model, cfg.d_ffn, cfg.activation, bias=cfg.bias)

    def __call__(self, x, table, kv):
        if self.norm_first:
            attended, kv = self.attn(self.attn_norm(x), table, kv)
            x = x + attended
            return x + self.mlp(self.mlp_norm(x)), kv
        attended, kv = self.attn(x, table, kv)
        x = self.attn_norm(x + attended)
        return self.mlp_norm(x + self.mlp(x)), kv


class OPT(nnx.Module):
    def __init__(self, cfg: OPTConfig):
        is_narrow = cfg.d_embed != cfg.d_model
        self.embed = Embedding(cfg.vocab, cfg.d_embed)
        self.positions = Embedding(cfg.max_positions + POSITION_OFFSET, cfg.d_model)
        self.project_in = Linear(cfg.d_embed, cfg.d_model) if is_narrow else None
        self.blocks = nnx.List([OPTBlock(cfg) for _ in range(cfg.num_layers)])
        self.norm = LayerNorm(cfg.d_model, NORM_EPS) if cfg.final_norm else None
        self.project_out = Linear(cfg.d_model, cfg.d_embed) if is_narrow else None
        self.head = None if cfg.tied else Linear(cfg.d_embed, cfg.vocab)

    def __call__(self, tokens, table, kv_pages):
        """tokens: i32[T], table: PageTable, kv_pages -> hidden [T, d_embed], kv_pages"""
        x = self.embed(tokens)
        if self.project_in is not None:
            x = self.project_in(x)
        x = x + self.positions(table.positions + POSITION_OFFSET)
        x, kv_pages = run_blocks(self.blocks, x, table, kv_pages)
        if self.norm is not None:
            x = self.norm(x)
        return (x if self.project_out is None else self.project_out(x)), kv_pages

    def logits(self, hidden):
        """hidden: [B, d_embed] -> [B, V]"""
        head = self.embed.attend if self.head is None else self.head
        return head(hidden, jnp.float32)

    def kv_spec(self):
        return tuple(block.attn.kv_spec for block in self.blocks)
