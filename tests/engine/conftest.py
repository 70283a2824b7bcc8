"""One warm engine for all tests that only run requests: compiling costs seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import a_llm, num_held_pages

from jpaged import LLM, LLMEngine


@pytest.fixture(scope="session")
def shared_llm(tiny_llama: Path) -> Iterator[LLM]:
    with a_llm(tiny_llama) as llm:
        yield llm


@pytest.fixture
def llm(shared_llm: LLM) -> Iterator[LLM]:
    """The shared engine.  Whatever a test did with it, nothing may be left over."""
    yield shared_llm
    engine = shared_llm.llm_engine
    assert engine.get_num_unfinished_requests() == 0
    assert num_held_pages(engine) == 0
    engine.scheduler.pool.check()
    assert engine.num_late_compilations == 0


@pytest.fixture
def engine(llm: LLM) -> LLMEngine:
    return llm.llm_engine


@pytest.fixture(scope="session")
def hf_model(tiny_llama: Path) -> Any:
    """The oracle."""
    from tiny import load_hf

    return load_hf(tiny_llama)
