"""Every kernel on the device: small batches against loops in float64 (`tests/kernels/ragged.py`),
large ones against the XLA reference.

Pages lie scattered, and what nobody has written holds NaN.  The error is the largest difference
over the root of the mean square of what is right.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from check_moves import move_cases
from journal import Case, Found
from kernels import kernel, why_not
from ragged import INT8, Ragged, Shape, attention_and_lse, make_ragged
from shapes import (
    LLAMA,
    TOY,
    Decode,
    Heads,
    Prompts,
    page_lists,
    pages_for,
    pool,
    queries,
    table_of,
)
from timing import is_alive

# a result of order one is rounded by up to 2^-9 (2^-12), and so is each weight; a maximum over
# many elements lies some deviations out.  float32 goes through three products in TF32.
MOST = {"bfloat16": 0.06, "float16": 0.02, "float32": 2e-3}
LENGTHS = (1, 15, 16, 65, 200, 317)
SPANS = ((0, 67), (130, 1), (0, 33), (250, 50), (5, 1), (16, 16), (0, 1))
# what a shape has beside H, K, D = 32, 8, 128, bf16 and pages of 16
SHAPES = (
    {},
    {"S": 8, "H": 8},
    {"S": 32, "D": 64},
    {"S": 64, "D": 256, "H": 8, "K": 2},
    {"S": 128, "D": 80, "H": 4, "K": 4},
    {"D": 96, "H": 12, "K": 2},
    {"H": 32, "K": 2, "D": 64},
    {"H": 64, "K": 1, "D": 64},
    {"dtype": "float16", "H": 24},
    {"page_dtype": "float8_e4m3fn"},
    {"page_dtype": "float8_e5m2", "D": 64},
    {"page_dtype": "int8"},
    {"dtype": "float32", "H": 8, "D": 64},
)
OPTIONS = (
    {"window": 40},
    {"softcap": 2.0},
    {"alibi": True},
    {"window": 100, "softcap": 5.0, "alibi": True},
)
OF_DECODE = ({"num_splits": 1}, {"num_splits": 5}, {"first": True})
OF_RAGGED = ({"least_queries": 2}, {"causal": False})
# mixed steps take two kernels, and what merges them; sinks are added there
OF_CHOSEN = (
    ({}, {"sinks": True}),
    ({}, {"window": 40, "sinks": True}),
    ({"page_dtype": "float8_e4m3fn"}, {}),
    ({"dtype": "float32", "H": 8, "D": 64}, {"alibi": True}),
)
LARGE = (
    Decode(64, 4096),
    Decode(1, 32768),
    Decode(128, 1024, is_skewed=True),
    Prompts(4, 1024),
    Prompts(1, 4096, page_size=64),
    Prompts(2, 512, before=3000),
)
TOYS = (Prompts(2, 40), Decode(20, 600))
__all__ = ["cases", "is_alive"]


def cases(is_dry: bool) -> list[Case]:
    everything = [(shape, {}) for shape in SHAPES] + [({}, options) for options in OPTIONS]
    kernels = {
        "mosaic decode": (LENGTHS, everything + [({}, own) for own in OF_DECODE]),
        "mosaic prefill": (SPANS, everything + [({}, own) for own in OF_RAGGED]),
        "triton ragged": (SPANS, everything + [({}, own) for own in OF_RAGGED]),
        "chosen": (SPANS, [({}, {}), *OF_CHOSEN]),
    }
    found = []
    for name, (batch, variants) in kernels.items():
        spans = [(n - 1, 1) for n in batch] if name == "mosaic decode" else list(batch)
        for shape, options in variants[:1] if is_dry else variants:
            run = partial(_small, name, spans, shape, options, is_dry)
            found.append(Case(f"{name}: {_words(shape, options)}", run))
    for batch in TOYS[:1] if is_dry else LARGE:
        is_decode = isinstance(batch, Decode)
        for name in ("mosaic decode" if is_decode else "mosaic prefill", "triton ragged", "chosen"):
            heads = TOY if is_dry else LLAMA
            found.append(Case(f"{name}: {batch.name}", partial(_large, name, batch, heads)))
    shared = TOYS[1] if is_dry else LARGE[0]
    run = partial(_large, "chosen", shared, TOY if is_dry else LLAMA, shares_prefix=True)
    found.append(Case(f"chosen: {shared.name}, half of it shared", run))
    return found + move_cases(is_dry)


def _words(shape: dict, options: dict) -> str:
    given = {**shape, **options}
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "as Llama-3.1-8B's"


def _small(name: str, spans: list, given: dict, options: dict, is_dry: bool) -> Found:
    spans = [(min(before, 20), min(new, 20)) for before, new in spans[:2]] if is_dry else spans
    size = {"S": 16, "H": 4, "K": 2, "D": 64} if is_dry else {"S": 16, "H": 32, "K": 8, "D": 128}
    size |= given
    num_tokens, longest = sum(new for _, new in spans), max(map(sum, spans))
    rows = len(spans) + 1  # one row is empty
    more = {"T": rows if name == "mosaic decode" else num_tokens + 5, "B": rows}
    shape = Shape(**({"dtype": "bfloat16"} | size | more), N=-(-longest // size["S"]) + 1)
    batch = make_ragged(shape, spans)
    spread = INT8 if shape.stored == "int8" else 1  # of keys and values
    given = {**options, "scale": shape.D**-0.5 / spread}
    if "alibi" in options:
        given["alibi"] = jnp.asarray(0.5 ** np.arange(1, shape.H + 1), jnp.float32)
    if "sinks" in options:
        given["sinks"] = jnp.linspace(-2, 3, shape.H)
    if "first" in options:
        given["first"] = jnp.asarray([min(7 * row, sum(span)) for row, span in enumerate(spans)])
        given["first"] = jnp.pad(given["first"], (0, 1)).astype(jnp.int32)
    return _compared(name, batch, given, interpreted=is_dry)


def _compared(name: str, batch: Ragged, options: dict, interpreted: bool) -> Found:
    arrays = tuple(map(jnp.asarray, (batch.q, batch.k_pages, batch.v_pages)))
    k_pages, v_pages = map(jnp.asarray, batch.written())
    if reason := why_not(name, arrays[0], k_pages):
        return Found(0, "", note=f"does not serve: {reason}")
    attend, note = kernel(name, interpreted)
    out, lse = jax.jit(partial(attend, **_static(options)))(
        arrays[0], k_pages, v_pages, batch.table, **_traced(options)
    )
    least = options.get("least_queries", 1)
    right, right_lse = attention_and_lse(batch, **_for_oracle(options))
    served = np.repeat([new >= least for _, new in batch.spans], [new for _, new in batch.spans])
    num_tokens = len(served)
    is_served = np.zeros(len(right), bool)
    is_served[:num_tokens] = served
    right = np.where(is_served[:, None, None], right, 0)
    found = _found(out, right, str(batch.q.dtype), note)
    if lse is None:
        return found
    has_key = is_served[:, None] & np.isfinite(right_lse)
    lse = np.asarray(lse, np.float64)
    error = float(np.abs(np.where(has_key, lse - right_lse, 0)).max())
    is_empty = bool((lse[~has_key] == -np.inf).all())
    is_good = bool(found.is_good) and error < MOST[str(batch.q.dtype)] and is_empty
    more = {"lse": error, "rows without keys have lse -inf": is_empty}
    return Found(found.value, "error", is_good=is_good, note=note, more=more)


def _static(options: dict) -> dict:
    return {name: value for name, value in options.items() if not isinstance(value, jax.Array)}


def _traced(options: dict) -> dict:
    return {name: value for name, value in options.items() if isinstance(value, jax.Array)}


def _for_oracle(options: dict) -> dict:
    unknown = ("num_splits", "least_queries")
    return {name: value for name, value in options.items() if name not in unknown}


def _found(out: jax.Array, right: np.ndarray, dtype: str, note: str) -> Found:
    error = np.abs(np.asarray(out, np.float64) - right).max() / np.sqrt(np.mean(right**2))
    # NaN is smaller than nothing
    return Found(float(error), "error", is_good=bool(error < MOST[dtype]), note=note)


def _large(name: str, batch: Decode | Prompts, heads: Heads, shares_prefix: bool = False) -> Found:
    """Against XLA, which needs a second or two for what would take loops an hour."""
    arrays = _arrays(batch, heads, shares_prefix)
    if reason := why_not(name, *arrays[:2]):
        return Found(0, "", note=f"does not serve: {reason}")
    attend, note = kernel(name)
    more = {"shares_prefix": True} if shares_prefix and not note else {}
    out, _ = jax.jit(partial(attend, scale=heads.scale, **more))(*arrays)
    return _found(out, _right(batch, heads, shares_prefix), "bfloat16", note)


@cache
def _right(batch: Decode | Prompts, heads: Heads, shares_prefix: bool) -> np.ndarray:
    attend = jax.jit(partial(kernel("reference")[0], scale=heads.scale))
    return np.asarray(attend(*_arrays(batch, heads, shares_prefix))[0], np.float64)


def _arrays(batch: Decode | Prompts, heads: Heads, shares_prefix: bool) -> tuple:
    S = batch.page_size
    if isinstance(batch, Decode):
        spans = [(int(length) - 1, 1) for length in batch.lengths()]
    else:
        spans = [(batch.before, batch.length)] * batch.count
    lengths = np.array([sum(span) for span in spans])
    k_pages, v_pages = pool(sum(pages_for(int(n), S) for n in lengths), S, heads)
    pages = page_lists(lengths, S, len(k_pages), 1)[0]
    if shares_prefix:
        half = pages.shape[1] // 2
        pages = pages.at[:, :half].set(pages[0, :half])
    table = table_of(spans, pages, len(k_pages) * S)
    return queries(len(table.positions), heads), k_pages, v_pages, table
