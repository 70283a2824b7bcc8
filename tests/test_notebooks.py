"""Every notebook runs from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_within_two_minutes(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)

    # a cell that fails raises CellExecutionError, one that hangs CellTimeoutError
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()

    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_there_is_a_notebook():
    assert NOTEBOOKS
