"""Compiles kernels for GPUs that are not on this machine, and says what they take.

XLA and ptxas need a GPU's description, not the GPU.  What they compile is what would run there,
so registers, spills, shared memory and buffers that are not copied can be asserted anywhere:

    def decode_case(batch):                               # any module on the tests' path
        return fn, abstract_args, {"donate_argnums": 1}   # what jax.jit gets

    report = compile_for("a100", "test_decode:decode_case", batch=64)
    assert report.spilled_bytes == 0

Each target has a process of its own: some mistakes abort it, and ptxas speaks to its stdout.
"""

import atexit
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PLUGIN = Path(sys.prefix) / "aot"  # where tools/bootstrap.sh puts it; with a GPU it is installed


@dataclass(frozen=True)
class Target:
    """What XLA wants to know of a GPU; shared memory is what one block may have."""

    name: str
    compute_capability: tuple[int, int]
    num_sms: int
    shared_kib: int

    @property
    def arch(self) -> int:
        """90 for sm_90, as Triton writes it."""
        major, minor = self.compute_capability
        return 10 * major + minor


TARGETS = {
    "a100": Target("NVIDIA A100-SXM4-80GB", (8, 0), 108, 163),
    "l40s": Target("NVIDIA L40S", (8, 9), 142, 99),
    "h200": Target("NVIDIA H200", (9, 0), 132, 227),
    "b200": Target("NVIDIA B200", (10, 0), 148, 227),
}


@dataclass(frozen=True)
class Kernel:
    """A kernel's needs: registers a thread, shared bytes a block, spilled bytes a thread."""

    name: str
    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int


@dataclass(frozen=True)
class Report:
    """What was compiled.  `kernels` are the Mosaic and Triton kernels, each once."""

    target: str
    kernels: tuple[Kernel, ...]
    argument_bytes: int
    output_bytes: int
    alias_bytes: int  # outputs that are written where an argument was
    temp_bytes: int
    num_graphs: int  # CUDA graphs, of a whole step only
    hlo: str | None = field(default=None, repr=False)

    @property
    def spilled_bytes(self) -> int:
        return sum(kernel.spill_stores + kernel.spill_loads for kernel in self.kernels)


class CompilationFailed(Exception):
    """The case was refused, or took the process down; the text is all it had said."""


def why_not() -> str | None:
    """Why nothing can be compiled ahead of time here, or None if it can."""
    is_installed = importlib.util.find_spec("jax_plugins") and any(
        map(importlib.util.find_spec, ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13"))
    )
    if not is_installed and not (PLUGIN / "jax_plugins").is_dir():
        return "no CUDA plugin of JAX is installed (jax-cuda13-plugin, jax-cuda13-pjrt)"
    return None if shutil.which("ptxas") else "no ptxas is on the PATH"


needs_aot = pytest.mark.skipif(why_not() is not None, reason=f"cannot compile ahead: {why_not()}")


@functools.cache
def _compiled(target: str, case: str, params: str, with_hlo: bool) -> Report:
    said = _process(target).ask(json.dumps([case, json.loads(params), with_hlo]))
    if said is None:  # this process has compiled the very kernel before, and kept silent
        _process(target).stop()
        said = _process(target).ask(json.dumps([case, json.loads(params), with_hlo]))
        assert said is not None, f"{case} has kernels of which ptxas says nothing"
    return Report(target, tuple(Kernel(**each) for each in said.pop("kernels")), **said)


def compile_for(
    target: str, case: str, *, with_hlo: bool = False, **params: int | float | str | bool | None
) -> Report:
    """Compiles what `case`, "module:function", returns for `params`: (fn, args, jit's options).

    It is called with the target as JAX's default device, whose `compute_capability` it may read.
    """
    return _compiled(target, case, json.dumps(params, sort_keys=True), with_hlo)


class _Process:
    """A process that compiles for one target, started when asked and again after it has died."""

    def __init__(self, target: str):
        self.target = target
        self.folder = tempfile.TemporaryDirectory(prefix=f"aot-{target}-")
        self.child: subprocess.Popen[str] | None = None

    def ask(self, request: str) -> dict | None:
        if self.child is None:
            self.child = self._start()
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(request + "\n")
        self.child.stdin.flush()
        if answer := self.child.stdout.readline():
            return json.loads(answer)
        said = (Path(self.folder.name) / "log").read_text()
        self.stop()
        if len(said) > 8000:
            said = f"{said[:4000]}\n[...]\n{said[-4000:]}"  # MLIR says why first, Python last
        raise CompilationFailed(f"{request} for {self.target}:\n{said}")

    def stop(self) -> None:
        if self.child is not None:
            self.child.terminate()
            self.child.communicate()
            self.child = None

    def _start(self) -> subprocess.Popen[str]:
        environment = {key: os.environ[key] for key in os.environ if key != "TRITON_INTERPRET"}
        own = (HERE, HERE / "kernels", HERE / "models", HERE.parent, PLUGIN)
        folders = [*map(str, own), environment.get("PYTHONPATH", "")]
        environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(folders)}
        atexit.register(self.stop)  # or the interpreter would wait for it
        return subprocess.Popen(
            [sys.executable, str(HERE / "aot_process.py"), self.target, self.folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )


@functools.cache
def _process(target: str) -> _Process:
    return _Process(target)
