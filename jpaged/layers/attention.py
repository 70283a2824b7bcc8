"""Self-attention over the paged cache: multi-head, grouped-query and multi-query."""

import jax
from flax import nnx
from jaxtyping import Float

from jpaged.layers.linear import Linear, project
from jpaged.layers.norm import RMSNorm
from jpaged.layers.paged import KVPages, KVSpec, PageTable
from jpaged.layers.rope import Rope
from pallas_kernels.paged_attention import write_and_attend


class Attention(nnx.Module):
    """H query heads over K kv heads of width D.

    window: how many positions a query sees, itself included.  qk_norm_eps: not None normalises
    queries and keys per head (Qwen3).  scale: None is 1/sqrt(D).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        rope: Rope | None = None,
        window: int | None = None,
        qkv_bias: bool = False,
        out_bias: bool = False,
        qk_norm_eps: float | None = None,
        scale: float | None = None,
    ):
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.rope, self.window = rope, window
        self.scale = head_dim**-0.5 if scale is None else scale
        self.q = Linear(width, heads * head_dim, bias=qkv_bias)
        self.k = Linear(width, kv_heads * head_dim, bias=qkv_bias)
        self.v = Linear(width, kv_heads * head_dim, bias=qkv_bias)
        self.o = Linear(heads * head_dim, width, bias=out_bias)
        self.q_norm = None if qk_norm_eps is None else RMSNorm(head_dim, qk_norm_eps)
        self.k_norm = None if qk_norm_eps is None else RMSNorm(head_dim, qk_norm_eps)

    @property
    def kv_spec(self) -> KVSpec:
        return KVSpec(self.kv_heads, self.head_dim, self.window)

    def __call__(
        self, x: Float[jax.Array, "T E"], table: PageTable, kv: KVPages
    ) -> tuple[Float[jax.Array, "T E"], KVPages]:
        T = x.shape[0]
        projected = project(x, self.q, self.k, self.v)
        q, k, v = (each.reshape(T, -1, self.head_dim) for each in projected)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope is not None:
            q, k = self.rope(q, table.positions), self.rope(k, table.positions)
        near = table.within(self.window)
        out, *pages = write_and_attend(
            q, k, v, kv.k, kv.v, near, scale=self.scale, window=self.window
        )
        return self.o(out.reshape(T, self.heads * self.head_dim)), KVPages(*pages)
