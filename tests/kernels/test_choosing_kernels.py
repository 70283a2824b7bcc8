"""The one door to all kernels: who serves, what is refused, and that parts make a whole."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aot import TARGETS, compile_for, needs_aot
from ragged import Ragged, Shape, attention, make_ragged
from triton_cases import abstract_table

from pallas_kernels import gpu
from pallas_kernels.kv_write import write
from pallas_kernels.paged_attention import (
    explain,
    on_gpu,
    paged_attention,
    write_and_attend,
)
from pallas_kernels.paged_attention import reference as plain
from pallas_kernels.paged_attention.choice import PROMPTS, SINGLE, Choice, choose
from pallas_kernels.paged_attention.door import check_shapes, check_table

FLOAT32 = 1e-5
LLAMA = (32, 8, 128, 16)  # query heads, kv heads, head dim, page size


def pages_of(batch: Ragged) -> tuple[jax.Array, jax.Array]:
    new, pages = (batch.k, batch.v), (batch.k_pages, batch.v_pages)
    k, v, k_pages, v_pages = map(jnp.array, (*new, *pages))
    return write(k, v, k_pages, v_pages, batch.table.write_slots)


@pytest.mark.parametrize("shape", [Shape(), Shape(T=6, B=6)], ids=["mixed", "single tokens"])
def test_alibi_weakens_what_is_far_away(shape):
    spans = [(40, 1), (9, 1 if shape.T == 6 else 15), (0, 1)]
    batch = make_ragged(shape, spans)
    slopes = 2.0 ** -np.arange(1, shape.H + 1)

    out = jax.jit(partial(paged_attention, scale=0.25, softcap=5.0))(
        jnp.array(batch.q), *pages_of(batch), batch.table, alibi=jnp.asarray(slopes, jnp.float32)
    )

    expected = attention(batch, 0.25, softcap=5.0, alibi=slopes)
    np.testing.assert_allclose(out, expected, rtol=0, atol=FLOAT32)


def blank_table(T: int, B: int, N: int):
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), abstract_table(T, B, N))


def abstract(shape: tuple, dtype: str = "bfloat16") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    ("q", "k_pages", "v_pages", "said"),
    [
        ((48, 4, 16), (9, 2, 16, 16), (9, 2, 32, 16), "must be alike"),
        ((48, 4, 16), (9, 2, 16, 32), (9, 2, 16, 32), "width 16 over 2 kv heads of width 32"),
        ((48, 5, 16), (9, 2, 16, 16), (9, 2, 16, 16), "5 query heads"),
        ((40, 4, 16), (9, 2, 16, 16), (9, 2, 16, 16), "40 queries, but the table has 48"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_the_numbers(q, k_pages, v_pages, said):
    # directly: jaxtyping, which only the tests have, would be faster
    with pytest.raises(ValueError, match=said):
        check_shapes(jnp.zeros(q), jnp.zeros(k_pages), jnp.zeros(v_pages), blank_table(48, 6, 4))


def test_keys_and_values_of_two_types_are_refused():
    kv = (9, 2, 16, 16)
    arrays = jnp.zeros((48, 4, 16)), jnp.zeros(kv, "bfloat16"), jnp.zeros(kv)
    with pytest.raises(ValueError, match="bfloat16.*float32.*alike"):
        check_shapes(*arrays, blank_table(48, 6, 4))


def test_native_pages_are_not_read_by_anybody_else():
    batch = make_ragged(Shape(), [(0, 1)])
    with pytest.raises(NotImplementedError, match="somebody else has written"):
        paged_attention(
            jnp.array(batch.q), *pages_of(batch), batch.table, scale=1.0, implementation="native"
        )


def test_native_says_that_it_knows_no_alibi():
    batch = make_ragged(Shape(), [(0, 1)])
    q, k, v = map(jnp.array, (batch.q, batch.k, batch.v))
    k_pages, v_pages = map(jnp.array, (batch.k_pages, batch.v_pages))
    alibi = jnp.ones(batch.shape.H)
    with pytest.raises(NotImplementedError, match="alibi"):
        write_and_attend(
            q, k, v, k_pages, v_pages, batch.table, scale=1.0, alibi=alibi, implementation="native"
        )


@pytest.mark.parametrize(
    ("capability", "single", "prompts"),
    [
        ((9, 0), "mosaic", "mosaic"),
        ((10, 0), "mosaic", "triton"),
        ((8, 0), "mosaic", "triton"),
        ((7, 5), "reference", "reference"),
    ],
)
def test_each_gpu_gets_the_best_that_serves_it(capability, single, prompts, monkeypatch):
    monkeypatch.setattr(gpu, "compute_capability", lambda: capability)
    H, K, D, S = LLAMA
    q, k_pages = jnp.zeros((64, H, D), "bfloat16"), jnp.zeros((9, K, S, D), "bfloat16")

    assert choose(SINGLE, q, k_pages).name == single
    assert choose(PROMPTS, q, k_pages).name == prompts
    if capability == (7, 5):
        assert "sm_75" in str(choose(SINGLE, q, k_pages))
        with pytest.raises(NotImplementedError, match="sm_80 or newer, not sm_75"):
            choose(SINGLE, q, k_pages, "mosaic")


def test_what_a_kernel_cannot_serve_goes_to_the_next_with_the_reason(monkeypatch):
    monkeypatch.setattr(gpu, "compute_capability", lambda: (9, 0))
    found = choose(SINGLE, jnp.zeros((64, 4, 64)), jnp.zeros((9, 2, 16, 64)))
    assert found.name == "triton"
    assert "float32" in str(found)


def test_people_are_told_who_serves_them_here(monkeypatch):
    assert len(explain(*LLAMA, "bfloat16")) == 1  # this machine: one for all
    monkeypatch.setattr(gpu, "is_gpu", lambda: True)
    monkeypatch.setattr(gpu, "compute_capability", lambda: (8, 9))
    single, prompts = explain(*LLAMA, "bfloat16")
    assert single == "single tokens: mosaic"
    assert prompts.startswith("prompts: triton (mosaic prefill multiplies with wgmma")


class Kernels:
    """Stand-ins for the GPU's kernels, by their contract: what each serves, and nothing else."""

    def __init__(self, batch: Ragged):
        self.batch = batch

    def decode(self, q, k_pages, v_pages, pages, lengths, *, first=None, **options):
        begin = jnp.zeros_like(lengths) if first is None else first
        return _attend(q, k_pages, v_pages, pages, lengths, lengths - 1, begin, **options)

    def ragged(self, q, k_pages, v_pages, table, *, causal=True, least_queries=1, **options):
        row = jnp.searchsorted(table.query_starts, jnp.arange(len(q)), side="right") - 1
        counts = jnp.diff(table.query_starts)
        is_mine = (row < len(counts)) & (counts[jnp.minimum(row, len(counts) - 1)] >= least_queries)
        row = jnp.minimum(row, len(counts) - 1)
        lengths = jnp.where(is_mine, table.lengths[row], 0)
        last = table.positions if causal else lengths - 1
        return _attend(
            q, k_pages, v_pages, table.pages[row], lengths, last, jnp.zeros_like(row), **options
        )


def _attend(q, k_pages, v_pages, pages, lengths, last, begin, *, scale, window=None, **_):
    """Every query on its own, over all of its row's pages, in float32."""
    T, H, D = q.shape
    K, S = k_pages.shape[1:3]

    def rows(cache):
        found = cache[pages].transpose(0, 2, 1, 3, 4).reshape(T, K, -1, D)
        return jnp.repeat(found, H // K, 1)  # [T, H, L, D]

    k, v = rows(k_pages), rows(v_pages)
    at = jnp.arange(k.shape[2])
    seen = (at <= last[:, None]) & (at >= begin[:, None]) & (at < lengths[:, None])
    if window is not None:
        seen &= at > last[:, None] - window
    scores = jnp.where(seen[:, None], jnp.einsum("THD,THLD->THL", q, k) * scale, -jnp.inf)
    lse = jax.nn.logsumexp(scores, -1)
    p = jnp.where(seen[:, None], jnp.exp(scores - jnp.where(lse == -jnp.inf, 0, lse)[..., None]), 0)
    return jnp.einsum("THL,THLD->THD", p, jnp.where(seen[:, None, :, None], v, 0)), lse


@pytest.fixture
def stand_ins(monkeypatch):
    """The composition's own arithmetic, apart from the kernels': those have tests of their own."""
    kernels = Kernels(make_ragged(Shape(), [(0, 1)]))
    monkeypatch.setattr(on_gpu.mosaic_decode, "decode", kernels.decode)
    monkeypatch.setattr(on_gpu.mosaic_prefill, "prefill", kernels.ragged)
    monkeypatch.setattr(on_gpu.triton_ragged, "ragged", kernels.ragged)


def served_by(monkeypatch, single: str, prompts: str) -> None:
    names = {SINGLE: single, PROMPTS: prompts}
    monkeypatch.setattr(on_gpu, "choose", lambda job, *_: Choice(names[job]))


@pytest.mark.parametrize("single_and_prompts", [("mosaic", "mosaic"), ("triton", "triton")])
@pytest.mark.parametrize("options", [{}, {"window": 7}], ids=str)
def test_single_tokens_beside_prompts_each_get_their_kernel(
    stand_ins, monkeypatch, single_and_prompts, options
):
    served_by(monkeypatch, *single_and_prompts)
    batch = make_ragged(Shape(), [(0, 17), (30, 1), (9, 12), (12, 1), (0, 1)])
    sinks = np.linspace(-1, 1, batch.shape.H)

    for given in (None, jnp.asarray(sinks, jnp.float32)):
        out = on_gpu.attend(
            jnp.array(batch.q), *pages_of(batch), batch.table, scale=0.25, sinks=given, **options
        )
        expected = attention(batch, 0.25, sinks=None if given is None else sinks, **options)
        np.testing.assert_allclose(out, expected, rtol=0, atol=FLOAT32)


def test_a_shared_prefix_is_merged_with_each_ones_own(stand_ins, monkeypatch):
    served_by(monkeypatch, "mosaic", "mosaic")
    batch = make_ragged(Shape(T=6, B=6, N=6), [(70, 1), (65, 1), (90, 1)])
    pages = np.array(batch.table.pages)
    pages[1:3, :4] = pages[0, :4]
    for row in (1, 2):
        batch.keys[row][:64], batch.values[row][:64] = batch.keys[0][:64], batch.values[0][:64]
    table = batch.table._replace(pages=jnp.asarray(pages))
    assert int(plain.num_shared_pages(table, 16)) == 4

    out = on_gpu.attend(jnp.array(batch.q), *pages_of(batch), table, scale=0.25, shares_prefix=True)

    np.testing.assert_allclose(out, attention(batch, 0.25), rtol=0, atol=FLOAT32)


def attention_case(T: int, B: int, implementation: str | None = None, shares: bool = False):
    H, K, D, S = LLAMA
    q, kv = abstract((T, H, D)), abstract((4096, K, S, D))
    new = abstract((T, K, D))

    def attend(q, k, v, k_pages, v_pages, table):
        k_pages, v_pages = write(k, v, k_pages, v_pages, table.write_slots)
        options = {"shares_prefix": shares, "implementation": implementation}
        out = paged_attention(q, k_pages, v_pages, table, scale=D**-0.5, **options)
        return out, k_pages, v_pages

    return attend, (q, new, new, kv, kv, abstract_table(T, B, 128)), {"donate_argnums": (3, 4)}


@needs_aot
@pytest.mark.parametrize("target", ["h200", "a100"])
@pytest.mark.parametrize(("T", "B", "shares"), [(64, 64, False), (64, 64, True), (2048, 64, False)])
def test_whole_attention_compiles_and_leaves_the_cache_where_it_is(target, T, B, shares):
    report = compile_for(target, "test_choosing_kernels:attention_case", T=T, B=B, shares=shares)
    is_mixed = T != B or shares
    assert len(report.kernels) == 1 + is_mixed
    pool = 2 * 4096 * 8 * 16 * 128 * 2
    assert report.alias_bytes == pool
    assert report.temp_bytes < 64 << 20, f"{report.temp_bytes:,} bytes"
    assert TARGETS[target].arch in (80, 90)


@pytest.mark.parametrize("page", [-1, 9])
def test_a_page_that_is_not_there_is_named_with_its_place(page):
    table = blank_table(48, 6, 4)
    check_table(table, num_pages=9)

    wrong = table._replace(pages=table.pages.at[2, 3].set(page))

    with pytest.raises(ValueError, match=f"page {page} in row 2, column 3.*pages 0 to 8"):
        check_table(wrong, num_pages=9)
