"""Builds the C++ kernels once for each machine, and registers them with XLA."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

HERE = Path(__file__).parent
TARGETS = (
    "jpaged_paged_attention",
    "jpaged_packed_matmul",
    "jpaged_gated_matmul",
    "jpaged_choose_tokens",
)
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-shared",
    "-fPIC",
)
SWITCH = "JPAGED_CPU_KERNELS"  # "off" leaves them out
SECONDS = 120  # a compiler that takes longer is stuck


class NativeUnavailable(RuntimeError):
    """There is no compiler, or it failed, or the user switched the kernels off."""


@functools.cache
def _state() -> str | None:
    """Loads and registers the kernels, once.  Returns why not, or None."""
    try:
        library = ctypes.CDLL(str(build()))
    except (NativeUnavailable, OSError) as error:
        return str(error)
    for target in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, capsule, platform="cpu")
    return None


def is_available() -> bool:
    return _state() is None


def why_not() -> str | None:
    """Why the kernels are not to be had; None if they are."""
    return _state()


def build() -> Path:
    """The shared library for this machine, compiled unless the cache has it.

    Raises `NativeUnavailable`.  Several processes may build at once: each writes a file of its
    own and renames it, which is atomic.
    """
    switch = os.environ.get(SWITCH, "on")
    if switch.lower() not in ("", "on", "1", "yes", "true"):
        known = switch.lower() in ("off", "0", "no", "false")
        raise NativeUnavailable(f"{SWITCH} is {switch}{'' if known else '; say on or off'}")
    compiler = _compiler()
    library = _cache_folder() / f"{_key(compiler)}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            fresh = Path(scratch) / library.name
            _compile(compiler, fresh)
            os.replace(fresh, library)
    return library


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise NativeUnavailable("no C++ compiler was found (CXX, c++, g++, clang++)")


def _compile(compiler: str, target: Path) -> None:
    sources = [str(path) for path in sorted(HERE.glob("*.cc"))]
    command = [compiler, *FLAGS, "-isystem", jax.ffi.include_dir(), *sources, "-o", str(target)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.CalledProcessError as error:
        raise NativeUnavailable(f"{compiler} failed:\n{error.stderr[:2000]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{compiler} failed: {error}") from error


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "jpaged" / "native"


def _key(compiler: str) -> str:
    """Changes with the sources, the compiler, the processor and XLA's interface."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    digest = hashlib.blake2b(digest_size=12)
    for part in (jax.__version__, " ".join(FLAGS), version.stdout, platform.machine(), _features()):
        digest.update(part.encode())
    for path in sorted((*HERE.glob("*.cc"), *HERE.glob("*.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _features() -> str:
    """The processor's instruction sets: -march=native depends on them, and a home folder may be
    shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
