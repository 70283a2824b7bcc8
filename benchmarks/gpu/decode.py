"""Decode: what share of the bandwidth of a copy the reading of scattered pages reaches."""

from functools import partial

from journal import Case, Found
from kernels import kernel, why_not
from shapes import LLAMA, TOY, Decode, Heads, page_lists, pages_for, pool, queries, table_of
from timing import copy_rate, is_alive, is_gpu, seconds_of, turns

POOL = 1_050_000  # tokens, 4.3 GB: 256 sequences of 4k; longer ones share
# the most telling first: what a budget cuts off is at the end
SHAPES = (
    *(Decode(64, context) for context in (1024, 4096, 8192)),
    *(Decode(256, context) for context in (1024, 4096)),
    Decode(1, 32768),
    *(Decode(batch, 2048, is_skewed=True) for batch in (64, 128, 256)),
    *(Decode(128, context) for context in (1024, 8192)),
    *(Decode(32, context) for context in (1024, 8192, 32768)),
    *(Decode(8, context) for context in (1024, 8192, 32768)),
    *(Decode(256, context) for context in (512, 2048, 8192)),
    *(Decode(64, context) for context in (512, 2048, 32768)),
    *(Decode(1, context) for context in (512, 1024, 8192)),
    *(Decode(batch, 1024, is_skewed=True) for batch in (32, 256)),
    *(Decode(batch, 4096, S) for S in (32, 64) for batch in (64, 256)),
    *(Decode(1, 32768, S) for S in (32, 64)),
    *(Decode(128, 2048, S, is_skewed=True) for S in (32, 64)),
)
TOYS = (Decode(4, 64), Decode(1, 128, 32), Decode(8, 40, is_skewed=True))
__all__ = ["cases", "is_alive"]


def cases(is_dry: bool) -> list[Case]:
    heads = TOY if is_dry else LLAMA
    return [
        Case(shape.name, partial(measure, shape, heads), target=target(shape))
        for shape in (TOYS if is_dry else SHAPES)
    ]


def target(shape: Decode) -> float | None:
    if shape.batch >= 64 and 1024 <= shape.context <= 8192:
        return 0.65 if shape.is_skewed else 0.75
    return 0.60 if (shape.batch, shape.context) == (1, 32768) else None


def measure(shape: Decode, heads: Heads, name: str = "mosaic decode") -> Found:
    lengths, S = shape.lengths(), shape.page_size
    k_pages, v_pages = pool(pages_for(POOL, S) if is_gpu() else 2048, S, heads)
    num_bytes = shape.num_bytes(heads)
    rotation = page_lists(lengths, S, len(k_pages), turns(num_bytes))
    spans = [(int(length) - 1, 1) for length in lengths]
    table = table_of(spans, rotation[0], len(k_pages) * S)
    q = queries(shape.batch, heads)
    if reason := why_not(name, q, k_pages):
        return Found(0, "", note=f"does not serve: {reason}")
    attend, note = kernel(name)

    def step(q, pages, table, k_pages, v_pages):
        table = table._replace(pages=pages)
        return attend(q, k_pages, v_pages, table, scale=heads.scale)[0]

    length = max(len(rotation), 8 if num_bytes < 500e6 else 2) if is_gpu() else 2
    seconds = seconds_of(step, q, rotation, (table, k_pages, v_pages), length=length)
    rate = num_bytes / seconds
    more = {"gb_per_s": round(rate / 1e9, 1), "copy_gb_per_s": round(copy_rate() / 1e9, 1)}
    return Found(
        round(1e6 * seconds, 2),
        "us",
        share=round(rate / copy_rate(), 3),
        of="copy bandwidth",
        key=shape.name,
        note=note,
        more=more,
    )
