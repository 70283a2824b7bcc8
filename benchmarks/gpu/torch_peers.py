"""torch's attention on the batches of `decode.py` and `prefill.py`.

SDPA knows no pages: its keys lie in a row, which is the best it can be given.  Flex attention reads
the pages where they are, through a block mask whose blocks are pages, and compiled.
"""

import statistics
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from journal import Case, Found
from shapes import LLAMA, TOY, Decode, Heads, Prompts
from torch.nn.functional import scaled_dot_product_attention as sdpa

FLEX_PAGE = 128  # its own block size
DECODES = (Decode(64, 1024), Decode(64, 4096), Decode(256, 1024), Decode(1, 32768))
PROMPTS = (Prompts(1, 4096), Prompts(1, 16384))


def cases(is_dry: bool) -> list[Case]:
    heads = TOY if is_dry else LLAMA
    decodes = (Decode(2, 256),) if is_dry else DECODES
    prompts = (Prompts(1, 64),) if is_dry else PROMPTS
    return [
        *(Case(f"SDPA: {shape.name}", partial(sdpa_decode, shape, heads)) for shape in decodes),
        *(Case(f"SDPA: {shape.name}", partial(sdpa_prompts, shape, heads)) for shape in prompts),
        *(Case(f"flex: {shape.name}", partial(flex_decode, shape, heads)) for shape in decodes[:3]),
    ]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def is_alive() -> None:
    """Raises if the device has stopped to answer."""
    torch.ones(8, device=device()).sum().item()


def seconds_of(run: Callable[[int], object], turns: int) -> float:
    """The median of some rounds, by the device's own clock; run(i) takes data set i of `turns`."""
    if device() == "cpu":
        import time

        start = time.perf_counter()
        run(0)
        return time.perf_counter() - start
    for i in range(3):
        run(i % turns)
    times, count = [], max(turns, 10)
    for _ in range(5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for i in range(count):
            run(i % turns)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / count)
    return statistics.median(times)


@cache
def copy_rate() -> float:
    """Bytes a second, read and written."""
    x = torch.zeros((512 << 20) if device() == "cuda" else 1 << 18, dtype=torch.int32).to(device())
    y = torch.empty_like(x)
    return 2 * x.numel() * 4 / seconds_of(lambda _: y.copy_(x), 1)


@cache
def matmul_rate() -> float:
    """FLOPs a second."""
    n = 8192 if device() == "cuda" else 256
    x, w = (torch.randn(n, n, dtype=torch.bfloat16, device=device()) for _ in range(2))
    return 2 * n**3 / seconds_of(lambda _: x @ w, 1)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.bfloat16, device=device())


def turns(num_bytes: int) -> int:
    """How many sets of data it takes for the cache to be cold."""
    return max(1, min(32, -(-(150 << 20) // num_bytes)))


def sdpa_decode(shape: Decode, heads: Heads) -> Found:
    B, L, count = shape.batch, shape.context, turns(shape.num_bytes(heads))
    q = randn(B, heads.H, 1, heads.D)
    k, v = ([randn(B, heads.K, L, heads.D) for _ in range(count)] for _ in range(2))
    seconds = seconds_of(lambda i: sdpa(q, k[i], v[i], enable_gqa=True), count)
    return _decoded(shape, heads, seconds, "keys in a row, no pages")


def sdpa_prompts(shape: Prompts, heads: Heads) -> Found:
    q, k, v = (
        randn(shape.count, each, shape.length, heads.D) for each in (heads.H, heads.K, heads.K)
    )
    seconds = seconds_of(lambda _: sdpa(q, k, v, is_causal=True, enable_gqa=True), 1)
    rate = shape.num_flops(heads) / seconds
    return Found(
        round(1e6 * seconds, 1),
        "us",
        share=round(rate / matmul_rate(), 3),
        of="bf16 matmul",
        key=shape.name,
        note="keys in a row, no pages",
        more={"tflop_per_s": round(rate / 1e12, 1)},
    )


def flex_decode(shape: Decode, heads: Heads) -> Found:
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    B, S, lengths = shape.batch, FLEX_PAGE, shape.lengths()
    used = -(-lengths // S)
    P, N = int(used.sum()), int(used.max())
    order = np.split(np.random.default_rng(0).permutation(P), np.cumsum(used)[:-1])
    pages, place = np.zeros((B, P), np.int32), np.full((B, P), -1, np.int32)
    for row, own in enumerate(order):
        pages[row, : len(own)], place[row, own] = own, np.arange(len(own))
    to = partial(torch.as_tensor, device=device())
    place, limits = to(place), to(lengths)

    def is_seen(b, h, q, slot):
        number = place[b, slot // S]
        return (number >= 0) & (number * S + slot % S < limits[b])

    mask = BlockMask.from_kv_blocks(
        to(used.astype(np.int32)).view(B, 1, 1),
        to(pages).view(B, 1, 1, P),
        BLOCK_SIZE=(128, S),
        mask_mod=is_seen,
        seq_lengths=(1, P * S),
    )
    q = randn(B, heads.H, 1, heads.D)
    k, v = (randn(1, heads.K, P * S, heads.D) for _ in range(2))
    attend = torch.compile(flex_attention) if device() == "cuda" else flex_attention
    run = lambda _: attend(q, k, v, block_mask=mask, enable_gqa=True)  # noqa: E731
    note = f"pages of {S}, up to {N} each"
    return _decoded(shape, heads, seconds_of(run, 1), note)


def _decoded(shape: Decode, heads: Heads, seconds: float, note: str) -> Found:
    rate = shape.num_bytes(heads) / seconds
    share, us = round(rate / copy_rate(), 3), round(1e6 * seconds, 2)
    return Found(us, "us", share=share, of="copy bandwidth", key=shape.name, note=note)
