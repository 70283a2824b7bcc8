"""A bad checkpoint ends in one line and an exit code, before a port opens; no code of it runs."""

import pickle
import time
from pathlib import Path

import pytest
from bad_checkpoints import REFUSED, SPRUNG, Trap, make
from refusals import checkpoint

from converters import CheckpointMismatch
from jpaged.engine.defaults import sampling_defaults
from jpaged.engine.llm_engine import LLMEngine
from jpaged.errors import UnsupportedModel

SECONDS = 20.0  # nothing was tried that takes long; transformers alone may import PyTorch


def load(folder: Path) -> None:
    """What `jpaged serve FOLDER` does before it listens, without the processes."""
    engine = LLMEngine(str(folder), warmup="none", use_tqdm_on_load=False)
    sampling_defaults(engine.folder)


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_checkpoint_is_refused_in_one_line(case: str, tmp_path: Path):
    spoil, reason = REFUSED[case]
    folder = make(tmp_path / "model", spoil)
    start = time.monotonic()

    with pytest.raises((UnsupportedModel, CheckpointMismatch)) as caught:
        load(folder)

    assert time.monotonic() - start < SECONDS
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / SPRUNG).exists()


def test_so_it_is_where_the_engine_has_a_process_of_its_own():
    """One of them; the others are the slow tests' in test_refusals.py."""
    what = "weights that are a pickle"

    refused = checkpoint(what)

    assert refused.status == 1
    assert REFUSED[what][1] in refused.said
    assert "\n" not in refused.said


def test_a_trap_springs_where_somebody_runs_it(tmp_path: Path):
    """Or nothing above would mean anything."""
    pickle.loads(pickle.dumps(Trap(tmp_path / SPRUNG))).close()

    assert (tmp_path / SPRUNG).exists()
