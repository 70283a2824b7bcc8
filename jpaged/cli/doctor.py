"""`jpaged doctor [MODEL]`: what this machine has, and which kernels would serve."""

import argparse
import importlib.util
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax

from jpaged.cli.options import engine_options
from jpaged.config import EngineConfig
from jpaged.engine.build import attention_kernels, build_model, plan_sizes
from pallas_kernels import gpu, native

PACKAGES = ("jpaged", "jax", "jaxlib", "flax", "jax-triton", "triton", "transformers")


def run(args: argparse.Namespace) -> int:
    rows = [
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        *((name, _version(name)) for name in PACKAGES),
        ("driver", _driver()),
        ("CPU kernels", "built" if native.is_available() else native.why_not()),
    ]
    _say(rows)
    _say([("devices", _devices())])
    _say([("warning", text) for text in warnings()])
    if args.model:
        _say([("attention", line) for line in attention_of(args)])
    return 0


def warnings() -> list[str]:
    """What is there and cannot be used, with the way out."""
    found = []
    if has_nvidia() and not gpu.is_gpu():
        found.append(
            "an NVIDIA GPU is here, but JAX runs on the CPU: install jpaged[cuda13], or "
            "jpaged[cuda12] for an older driver, and see that JAX_PLATFORMS does not say cpu"
        )
    if gpu.is_gpu() and gpu.compute_capability() < gpu.OLDEST:
        major, minor = gpu.compute_capability()
        found.append(
            f"this GPU is sm_{major}{minor}; the kernels begin with sm_80 (Ampere), and plain XLA "
            "serves here, slower"
        )
    if gpu.is_gpu() and importlib.util.find_spec("jax_triton") is None:
        found.append("jax-triton is not installed: prompts run in plain XLA where Mosaic cannot")
    return found


def has_nvidia() -> bool:
    """Whether the kernel's driver for NVIDIA GPUs is loaded."""
    return Path("/proc/driver/nvidia/version").exists()


def attention_of(args: argparse.Namespace) -> list[str]:
    """Who attends in the model's steps; a line for each job."""
    config = EngineConfig.from_options(args.model, **engine_options(args))
    _, model = build_model(config, with_weights=False)
    return attention_kernels(model, plan_sizes(config, model))


def _say(rows: list[tuple[str, str | None]]) -> None:
    for name, value in rows:
        print(f"{name:<14}{value}")


def _devices() -> str:
    try:
        return ", ".join(f"{each.device_kind} ({each.platform})" for each in jax.devices())
    except (RuntimeError, AssertionError) as error:  # a plugin that is not there, or fails
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise RuntimeError(
            f"JAX cannot start on platform {platforms!r} (JAX_PLATFORMS): "
            f"{error or 'it has no such plugin'}; install jpaged[cuda13] or leave it unset"
        ) from error


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "no nvidia-smi"
    return said.stdout.strip().replace("\n", "; ") or said.stderr.strip() or "no answer"
