"""Llama, Mistral, Qwen2, Qwen3."""

from converters.rules import Rule, Table, keep

LLAMA = Table(
    (
        Rule("embed_tokens.weight", "embed.weight", keep),
        Rule("layers.{i}.self_attn.{p:q|k|v|o}_proj.{w:weight|bias}", "blocks.{i}.attn.{p}.{w}"),
        Rule("layers.{i}.self_attn.{p:q|k}_norm.weight", "blocks.{i}.attn.{p}_norm.weight", keep),
        Rule("layers.{i}.mlp.{p:gate|up|down}_proj.{w:weight|bias}", "blocks.{i}.mlp.{p}.{w}"),
        Rule("layers.{i}.input_layernorm.weight", "blocks.{i}.attn_norm.weight", keep),
        Rule("layers.{i}.post_attention_layernorm.weight", "blocks.{i}.mlp_norm.weight", keep),
        Rule("norm.weight", "norm.weight", keep),
        Rule("lm_head.weight", "head.weight", optional=True),
    ),
    prefix="model.",
    ignored=r".*\.rotary_emb\.inv_freq",
)
