"""A small model on a CPU leaves the host a core; threads are a process's, so each case has one."""

import json
import os
import subprocess
import sys

import pytest

LOAD = """
import json, logging, os, sys
from pathlib import Path
logging.basicConfig(format="%(message)s")
from jpaged.runner import cores
cores.num_cores = lambda: int(sys.argv[1])
for num_parameters in map(int, sys.argv[2:]):
    cores.leave_a_core(num_parameters)
import jax
jax.numpy.ones(3).sum().block_until_ready()
names = [Path(f"/proc/self/task/{each}/comm").read_text() for each in os.listdir("/proc/self/task")]
print(json.dumps([sum("XLAEigen" in name for name in names), os.environ.get("NPROC")]))
"""
SMALL, LARGE = "3000000", "99000000"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")


def threads_of(cores: int, *num_parameters: str, **environment: str) -> tuple[int, str | None, str]:
    """How many threads XLA computes with after these models, what NPROC is, and what was said."""
    inherited = {name: value for name, value in os.environ.items() if name != "NPROC"}
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(cores), *num_parameters],
        env=inherited | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    threads, left_behind = json.loads(run.stdout)
    return threads, left_behind, run.stderr


def test_a_small_model_computes_with_a_thread_less_than_there_are_cores():
    assert threads_of(4, SMALL) == (3, None, "")
    assert threads_of(2, SMALL) == (1, None, "")


def test_a_large_model_has_what_xla_takes():
    usual = threads_of(7)[0]
    assert threads_of(7, LARGE) == (usual, None, "") and usual != 6


def test_one_core_is_not_divided():
    assert threads_of(1, SMALL)[0] == threads_of(1)[0]


def test_what_the_user_asks_for_holds():
    assert threads_of(4, SMALL, NPROC="2") == (2, "2", "")


def test_a_large_model_behind_a_small_one_is_told():
    threads, _, said = threads_of(4, SMALL, LARGE)
    assert threads == 3
    assert said == (
        "a small model was loaded first, and left a core to the host; this one has 3 of 4 as well: "
        "load it in a process of its own, or set NPROC=4 before either\n"
    )
