"""What all tests share."""

import os
import signal
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network should fail
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Shapes in annotations are checked here and nowhere else: they would slow every trace down.
install_import_hook(["pallas_kernels", "jpaged.layers", "jpaged.sampling"], "beartype.beartype")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a tokenizer, in float32."""
    from tiny_llama import save_tiny_llama  # brings torch, which scheduling tests do not need

    return save_tiny_llama(tmp_path_factory.mktemp("tiny_llama"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import jax  # only where it matters: most of the suite's scheduling tests need no JAX

        if jax.default_backend() != "gpu":
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, none is here"))
