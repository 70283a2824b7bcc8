"""The device that kernels are traced for."""

from jax.extend import backend

OLDEST = (8, 0)  # Ampere: no kernel of ours serves what came before


def is_gpu() -> bool:
    """Whether it is an NVIDIA GPU: one that is here, or the one that a program is compiled for."""
    return backend.get_default_device().platform in ("gpu", "cuda")


def compute_capability() -> tuple[int, int]:
    """The GPU's; Hopper's where there is none, as Mosaic's interpreter assumes."""
    major, minor = getattr(backend.get_default_device(), "compute_capability", "9.0").split(".")
    return int(major), int(minor)
