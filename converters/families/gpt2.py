"""GPT-2, whose Conv1D weights are stored [in, out] as ours are."""

from converters.rules import Rule, Table, keep, split_in_three

GPT2 = Table(
    (
        Rule("wte.weight", "embed.weight", keep),
        Rule("wpe.weight", "positions.weight", keep),
        Rule(
            "h.{i}.attn.c_attn.{w:weight|bias}",
            ("blocks.{i}.attn.q.{w}", "blocks.{i}.attn.k.{w}", "blocks.{i}.attn.v.{w}"),
            split_in_three,
        ),
        Rule("h.{i}.attn.c_proj.{w:weight|bias}", "blocks.{i}.attn.o.{w}", keep),
        Rule("h.{i}.mlp.c_fc.{w:weight|bias}", "blocks.{i}.mlp.up.{w}", keep),
        Rule("h.{i}.mlp.c_proj.{w:weight|bias}", "blocks.{i}.mlp.down.{w}", keep),
        Rule("h.{i}.ln_1.{w:weight|bias}", "blocks.{i}.attn_norm.{w}", keep),
        Rule("h.{i}.ln_2.{w:weight|bias}", "blocks.{i}.mlp_norm.{w}", keep),
        Rule("ln_f.{w:weight|bias}", "norm.{w}", keep),
        Rule("lm_head.weight", "head.weight", optional=True),
    ),
    prefix="transformer.",
    ignored=r".*\.attn\.(masked_)?bias",  # the causal mask, stored as a buffer
)
