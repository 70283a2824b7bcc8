"""The C++ kernels: built once, never required, and safe against what they are given."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from pallas_kernels import native
from pallas_kernels.page_table import PageTable

HERE = Path(__file__).parent
NATIVE = Path(native.__file__).parent
needs_native = pytest.mark.skipif(
    not native.is_available(), reason=f"no native kernels here: {native.why_not()}"
)


def in_new_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent.parent,
    )
    return done.stdout.strip()


NUM_PAGES, PAGE_SIZE, HEAD_DIM = 4, 16, 16
NUM_SLOTS = NUM_PAGES * PAGE_SIZE


def attend(
    table: PageTable,
    heads: int = 2,
    kv_heads: int = 1,
    page_size: int = PAGE_SIZE,
    head_dim: int = HEAD_DIM,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One token of one sequence, all twos, over a cache of four pages, all ones."""
    q, new = jnp.ones((1, heads, head_dim)), jnp.full((1, kv_heads, head_dim), 2.0)
    pages = jnp.ones((NUM_PAGES, kv_heads, page_size, head_dim))
    call = jax.jit(lambda *arrays: native.write_and_attend(*arrays, scale=1.0))
    return call(q, new, new, pages, pages, table)


def a_table(
    page: int = 0, starts: tuple[int, int] = (0, 1), length: int = 1, slot: int = 0
) -> PageTable:
    return PageTable(
        positions=jnp.array([length - 1]),
        write_slots=jnp.array([slot]),
        query_starts=jnp.array(starts),
        pages=jnp.array([[page, 0]]),
        lengths=jnp.array([length]),
    )


@needs_native
def test_a_valid_table_is_served():
    out, k_pages, v_pages = attend(a_table())

    assert jnp.array_equal(out, jnp.full((1, 2, HEAD_DIM), 2.0))
    for pages in (k_pages, v_pages):
        assert jnp.sum(pages == 2) == HEAD_DIM and jnp.sum(pages == 1) == pages.size - HEAD_DIM


@needs_native
@pytest.mark.parametrize(
    ("table", "said"),
    [
        (a_table(page=4), "a page lies outside the cache"),
        (a_table(page=-1), "a page lies outside the cache"),
        (a_table(page=2**31 - 1), "a page lies outside the cache"),
        (a_table(length=2 * PAGE_SIZE + 1), "longer than its page table"),
        (a_table(length=2**31 - 1), "longer than its page table"),
        (a_table(length=0), "shorter than its queries"),
        (a_table(length=-1), "shorter than its queries"),
        (a_table(starts=(0, 2)), "query_starts lie outside the tokens"),
        (a_table(starts=(-1, 1)), "query_starts lie outside the tokens"),
        (a_table(starts=(1, 0)), "query_starts decrease"),
        (a_table(starts=(2**31 - 1, 0)), "query_starts decrease"),
    ],
)
def test_a_table_that_points_outside_is_an_error_and_no_crash(table, said):
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        jax.block_until_ready(attend(table))


@needs_native
@pytest.mark.parametrize("slot", [NUM_SLOTS, NUM_SLOTS + 1, 2**31 - 1, -1, -NUM_SLOTS, -(2**31)])
def test_a_slot_outside_the_cache_is_written_nowhere(slot):
    out, *pages = attend(a_table(slot=slot))

    assert jnp.array_equal(out, jnp.ones((1, 2, HEAD_DIM)))
    assert all(jnp.array_equal(each, jnp.ones_like(each)) for each in pages)


@needs_native
@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"page_size": 8}, "page_size is no multiple of 16"),
        ({"page_size": 24}, "page_size is no multiple of 16"),
        ({"head_dim": 8}, "unsupported head_dim"),
        ({"head_dim": 40}, "unsupported head_dim"),
        ({"head_dim": native.MOST_DIM + 16}, "unsupported head_dim"),
        ({"heads": native.MOST_GROUP + 1}, "too many query heads"),
        ({"heads": 3, "kv_heads": 2}, "heads are no multiple of kv_heads"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error_and_no_crash(shapes, said):
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        jax.block_until_ready(attend(a_table(), **shapes))


def choose(num_logits: tuple[int, int], num_settings: int, num_tokens: int) -> jax.Array:
    """The C++ choice, called past the annotations of `native.choose_tokens`."""
    numbers, counts = jnp.ones(num_settings), jnp.zeros(num_settings, jnp.int32)
    tokens = jax.ShapeDtypeStruct((num_tokens,), jnp.int32)
    call = jax.jit(jax.ffi.ffi_call("jpaged_choose_tokens", tokens))
    return call(jnp.ones(num_logits), numbers, numbers, counts, numbers, numbers)


@needs_native
@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((3, 5), 2, 3), "rows differ"),
        (((3, 5), 3, 4), "rows differ"),
        (((2, 5), 3, 3), "rows differ"),
        (((3, 0), 3, 3), "there is no vocabulary"),
    ],
)
def test_choices_whose_rows_differ_are_an_error_and_no_crash(shapes, said):
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        choose(*shapes).block_until_ready()


CHECK = "from pallas_kernels import native; print(native.is_available(), native.why_not())"


def test_the_switch_leaves_them_out():
    assert in_new_process(CHECK, JPAGED_CPU_KERNELS="off") == "False JPAGED_CPU_KERNELS is off"


def test_without_a_compiler_it_says_so():
    said = in_new_process(CHECK, PATH="", CXX="")

    assert said == "False no C++ compiler was found (CXX, c++, g++, clang++)"


def test_a_compiler_that_fails_is_reported_and_nothing_is_kept(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'internal compiler error' >&2\nexit 1\n")
    broken.chmod(0o755)

    said = in_new_process(CHECK, CXX=str(broken), XDG_CACHE_HOME=str(tmp_path))

    assert said.startswith("False") and "internal compiler error" in said
    assert not list(tmp_path.rglob("*.so"))


@needs_native
def test_the_engine_generates_the_same_with_and_without_them():
    code = (
        "import jpaged; print(jpaged.generate('demo', 'One day', dtype='float32', temperature=0, "
        "max_tokens=20, max_num_seqs=2, max_num_batched_tokens=16)[0].outputs[0].token_ids)"
    )

    assert in_new_process(code, JPAGED_CPU_KERNELS="off") == in_new_process(code)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the sanitizers' build needs g++")
@pytest.mark.parametrize("processor", ["native", "x86-64-v3"])  # with and without AVX512-BF16
@pytest.mark.parametrize(
    ("source", "said"),
    [("sanitized.cc", "1500 cases\n"), ("sanitized_choice.cc", "4458 rows\n")],
    ids=["attention and products", "choice"],
)
def test_no_buffer_is_overrun_and_nothing_is_undefined(source, said, processor, tmp_path):
    if processor != "native" and os.uname().machine != "x86_64":
        pytest.skip("an x86-64 processor is named")
    command = ["g++", "-O1", "-g1", f"-march={processor}", "-std=c++17", "-Wno-psabi"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{NATIVE}"]
    command += ["-isystem", jax.ffi.include_dir(), str(HERE / source)]
    subprocess.run([*command, "-o", tmp_path / "sanitized"], check=True)

    done = subprocess.run([tmp_path / "sanitized"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == said
