"""OPT."""

from converters.rules import Rule, Table, keep

OPT = Table(
    (
        Rule("decoder.embed_tokens.weight", "embed.weight", keep),
        Rule("decoder.embed_positions.weight", "positions.weight", keep),
        Rule("decoder.project_{d:in|out}.weight", "project_{d}.weight"),
        Rule(
            "decoder.layers.{i}.self_attn.{p:q|k|v}_proj.{w:weight|bias}",
            "blocks.{i}.attn.{p}.{w}",
        ),
        Rule("decoder.layers.{i}.self_attn.out_proj.{w:weight|bias}", "blocks.{i}.attn.o.{w}"),
        Rule("decoder.layers.{i}.fc1.{w:weight|bias}", "blocks.{i}.mlp.up.{w}"),
        Rule("decoder.layers.{i}.fc2.{w:weight|bias}", "blocks.{i}.mlp.down.{w}"),
        Rule(
            "decoder.layers.{i}.self_attn_layer_norm.{w:weight|bias}",
            "blocks.{i}.attn_norm.{w}",
            keep,
        ),
        Rule(
            "decoder.layers.{i}.final_layer_norm.{w:weight|bias}", "blocks.{i}.mlp_norm.{w}", keep
        ),
        Rule("decoder.final_layer_norm.{w:weight|bias}", "norm.{w}", keep),
        Rule("lm_head.weight", "head.weight", optional=True),
    ),
    prefix="model.",
)
