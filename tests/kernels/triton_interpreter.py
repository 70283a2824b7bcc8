"""Runs Triton kernels on a CPU, element by element in numpy, with the wrappers around them.

    out, lse = launch(partial(ragged, scale=1.0), q, k_pages, v_pages, table)

On a GPU the same tests run the compiled kernels.

Triton decides when it is imported whether it interprets, so that happens in a process of its own.
Neither a GPU nor PyTorch is needed.  bfloat16 is: the interpreter multiplies its bits.
"""

import atexit
import contextlib
import functools
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import gpu, triton_call

ROOT = Path(__file__).parents[2]


class Tensor:
    """A numpy array with what Triton asks of a PyTorch tensor."""

    def __init__(self, array: np.ndarray):
        self.array = array

    @property
    def dtype(self) -> str:
        return str(self.array.dtype)

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    # its copy on the host is the tensor itself

    def untyped_storage(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return self

    def new_empty(self, *_: int, **__: str) -> "Tensor":
        return Tensor(self.array)

    def set_(self, storage: "Tensor", *_: Any) -> None:
        self.array = storage.array

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(each // self.array.itemsize for each in self.array.strides)

    def copy_(self, other: "Tensor") -> None:
        assert other.array is self.array


def why_not() -> str | None:
    """Why Triton kernels cannot be run here, or None if they can."""
    if reason := triton_call.why_not():
        return reason
    if jax.default_backend() != "gpu" and version("triton").startswith("3.6."):
        return "the interpreter of triton 3.6 has no loops with NumPy 2.4"
    return None


needs_triton = pytest.mark.skipif(why_not() is not None, reason=f"no Triton kernels: {why_not()}")


def launch(function: Callable, *arrays: Any, compute_capability: tuple[int, int] = (9, 0)) -> Any:
    """Calls what launches a kernel: interpreted, or jitted where there is a GPU."""
    if jax.default_backend() != "gpu":
        with interpreted(compute_capability):
            return function(*arrays)
    if compute_capability != gpu.compute_capability():
        pytest.skip(f"this is for a GPU of {compute_capability}")
    return jax.jit(function)(*arrays)


@contextlib.contextmanager
def interpreted(compute_capability: tuple[int, int] = (9, 0)) -> Iterator[None]:
    """Lets `triton_call.launch` run kernels in the interpreter, as they are on such a GPU."""
    with (
        mock.patch.object(triton_call, "launch", _call),
        mock.patch.object(gpu, "compute_capability", lambda: compute_capability),
    ):
        yield


def _call(kernel, *operands, in_place=(), outputs=(), grid, compute_capability, **constants):
    constants = {k: v for k, v in constants.items() if k not in ("num_warps", "num_stages")}
    arrays = [each if isinstance(each, int) else np.array(each) for each in operands]
    changed = [np.array(each) for each in in_place]
    # whatever is never written shows
    new = [np.full(each.shape, np.nan).astype(each.dtype) for each in outputs]
    name = kernel.fn.__module__, kernel.fn.__name__
    request = pickle.dumps((name, arrays, changed, new, grid, constants))
    return tuple(map(jnp.asarray, _ask(request)))


def _ask(request: bytes) -> list[np.ndarray]:
    process = _process()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(len(request).to_bytes(8) + request)
    process.stdin.flush()
    kind, answer = pickle.load(process.stdout)
    if kind == "error":
        raise RuntimeError(answer)
    return answer


@functools.cache
def _process() -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path, "TRITON_INTERPRET": "1", "JAX_PLATFORMS": "cpu"},
    )

    def stop() -> None:
        process.terminate()
        process.communicate()

    atexit.register(stop)
    return process


def _run(name, arrays, changed, new, grid, constants) -> list[np.ndarray]:
    module, function = name
    kernel = getattr(importlib.import_module(module), function)
    as_tensors = [Tensor(each) if isinstance(each, np.ndarray) else each for each in arrays]
    unused = [0] * len(changed)
    with np.errstate(all="ignore"):  # NaN and overflow are what a GPU would not complain of
        kernel[grid](*as_tensors, *map(Tensor, changed), *unused, *map(Tensor, new), **constants)
    return [*changed, *new]


def _serve() -> None:
    import traceback

    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what kernels print goes elsewhere
    while size := sys.stdin.buffer.read(8):
        request = pickle.loads(sys.stdin.buffer.read(int.from_bytes(size)))
        try:
            answer = "arrays", _run(*request)
        except Exception:  # it is the kernel's, and the test shall see it
            answer = "error", traceback.format_exc()
        pickle.dump(answer, replies)
        replies.flush()


if __name__ == "__main__":
    _serve()
