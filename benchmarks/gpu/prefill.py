"""Prompts: what share of the rate of a large product attention reaches."""

from functools import partial

import numpy as np
from journal import Case, Found
from kernels import kernel, why_not
from shapes import LLAMA, TOY, Heads, Prompts, page_lists, pages_for, pool, queries, table_of
from timing import is_alive, is_gpu, matmul_rate, seconds_of

SHAPES = (
    Prompts(1, 4096),
    Prompts(4, 4096),
    Prompts(1, 1024),
    Prompts(8, 1024),
    Prompts(1, 16384),
    Prompts(1, 2048, before=6144),
    Prompts(1, 4096, page_size=64),
    Prompts(1, 16384, page_size=64),
)
TOYS = (Prompts(2, 40), Prompts(1, 20, before=30))
__all__ = ["cases", "is_alive"]


def cases(is_dry: bool) -> list[Case]:
    return [
        Case(f"{name}: {shape.name}", partial(measure, shape, name, is_dry), target=target)
        for shape in (TOYS if is_dry else SHAPES)
        for name in ("mosaic prefill", "triton ragged")
        for target in [0.50 if shape.length == 4096 and name == "mosaic prefill" else None]
    ]


def measure(shape: Prompts, name: str, is_dry: bool) -> Found:
    heads: Heads = TOY if is_dry else LLAMA
    total, S = shape.before + shape.length, shape.page_size
    k_pages, v_pages = pool(pages_for(shape.count * pages_for(total, S), S), S, heads)
    lengths = np.full(shape.count, total)
    pages = page_lists(lengths, S, len(k_pages), 1)[0]
    table = table_of([(shape.before, shape.length)] * shape.count, pages, len(k_pages) * S)
    q = queries(shape.count * shape.length, heads)
    if reason := why_not(name, q, k_pages):
        return Found(0, "", note=f"does not serve: {reason}")
    attend, note = kernel(name)

    def step(q, table, k_pages, v_pages):
        return attend(q, k_pages, v_pages, table, scale=heads.scale)[0]

    seconds = seconds_of(step, q, [table], (k_pages, v_pages), length=4 if is_gpu() else 1)
    rate = shape.num_flops(heads) / seconds
    return Found(
        round(1e6 * seconds, 1),
        "us",
        share=round(rate / matmul_rate(), 3),
        of="bf16 matmul",
        key=shape.name,
        note=note,
        more={
            "tflop_per_s": round(rate / 1e12, 1),
            "matmul_tflop_per_s": round(matmul_rate() / 1e12, 1),
        },
    )
