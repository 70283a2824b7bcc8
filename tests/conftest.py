"""What all tests share."""

import os

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network should fail
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Shapes in annotations are checked here and nowhere else: they would slow every trace down.
install_import_hook(["pallas_kernels", "jpaged.layers", "jpaged.sampling"], "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import jax  # only where it matters: most of the suite's scheduling tests need no JAX

        if jax.default_backend() != "gpu":
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, none is here"))
