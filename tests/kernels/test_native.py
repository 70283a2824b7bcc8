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


def attend(table: PageTable) -> jax.Array:
    """One token of one sequence over a cache of four pages of two tokens."""
    q, pages = jnp.ones((1, 2, 8)), jnp.ones((4, 1, 2, 8))
    return jax.jit(lambda *x: native.paged_attention(*x, scale=1.0))(q, pages, pages, table)


def a_table(page: int = 0, starts: tuple[int, int] = (0, 1), length: int = 1) -> PageTable:
    return PageTable(
        positions=jnp.array([length - 1]),
        write_slots=jnp.array([0]),
        query_starts=jnp.array(starts),
        pages=jnp.array([[page, 0]]),
        lengths=jnp.array([length]),
    )


@needs_native
def test_a_valid_table_is_served():
    assert jnp.array_equal(attend(a_table()), jnp.ones((1, 2, 8)))


@needs_native
@pytest.mark.parametrize(
    ("table", "said"),
    [
        (a_table(page=4), "a page lies outside the cache"),
        (a_table(page=-1), "a page lies outside the cache"),
        (a_table(length=5), "longer than its page table"),
        (a_table(length=0), "shorter than its queries"),
        (a_table(starts=(0, 2)), "query_starts lie outside the tokens"),
        (a_table(starts=(-1, 1)), "query_starts lie outside the tokens"),
        (a_table(starts=(1, 0)), "query_starts decrease"),
    ],
)
def test_a_table_that_points_outside_is_an_error_and_no_crash(table, said):
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        attend(table).block_until_ready()


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
def test_no_buffer_is_overrun_and_nothing_is_undefined(processor, tmp_path):
    if processor != "native" and os.uname().machine != "x86_64":
        pytest.skip("an x86-64 processor is named")
    command = ["g++", "-O1", "-g", f"-march={processor}", "-std=c++17", "-Wno-psabi"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{NATIVE}"]
    command += ["-isystem", jax.ffi.include_dir(), str(HERE / "sanitized.cc")]
    subprocess.run([*command, "-o", tmp_path / "sanitized"], check=True)

    done = subprocess.run([tmp_path / "sanitized"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "300 cases\n"
