"""The script for a GPU: what it survives, and all of it at toy sizes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.py"
FAULTS = """
import os, time
from journal import Case, Found

def good():
    return Found(2.0, "s", share=0.8, of="everything")

def raises():
    raise ValueError("no such thing")

def ends():
    os._exit(3)

def hangs():
    time.sleep(1000)

def cases(is_dry):
    runs = (good, raises, ends, hangs)
    return [Case(run.__name__, run) for run in runs] + [Case("last", good, target=0.9)]

def is_alive():
    pass
"""


@pytest.fixture
def run_part(tmp_path, monkeypatch):
    """Runs a module of faults as a part, and returns its rows by their cases."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    from journal import Journal  # pyright: ignore[reportMissingImports]
    from watch import Part, Run, run_part  # pyright: ignore[reportMissingImports]

    (tmp_path / "faults.py").write_text(FAULTS)

    def run(module: str, seconds: float, longest: float = 1.0) -> dict[str, dict]:
        part = Part("a-part", module, seconds, longest, "faults")
        run_part(part, Run(tmp_path, is_dry=True), time.monotonic() + seconds)
        assert Journal(tmp_path, "a-part").not_reached() == ([] if seconds > 10 else ["last"])
        return {row["case"]: row for row in Journal(tmp_path, "a-part").rows()}

    return run


def run_script(folder: Path, *words: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    command = [sys.executable, str(SCRIPT), "--out", str(folder), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_every_fault_costs_its_own_case_only(run_part):
    rows = run_part("faults", seconds=30)

    assert list(rows) == ["good", "raises", "ends", "hangs", "last"]
    assert rows["good"]["value"] == 2.0 and rows["good"]["verdict"] is None
    assert rows["raises"]["error"] == "ValueError: no such thing"
    assert "ended with code 3" in rows["ends"]["error"]
    assert rows["hangs"]["error"] == "hung: no answer for 1 s"
    assert rows["last"]["verdict"] is False  # a share of 0.8, where 0.9 is wanted


def test_a_part_that_cannot_be_imported_is_one_failure(run_part):
    rows = run_part("no_such_module", seconds=30)

    assert list(rows) == ["beginning"]
    assert "No module named 'no_such_module'" in rows["beginning"]["error"]


def test_a_part_ends_when_its_time_is_up(run_part):
    start = time.monotonic()

    rows = run_part("faults", seconds=2, longest=1000)

    assert time.monotonic() - start < 10
    assert rows["hangs"]["error"] == "the part's time was up"
    assert "last" not in rows


def test_a_script_that_is_stopped_ends_its_processes_and_reports(tmp_path):
    words = ["--dry-run", "--parts", "check", "--out", str(tmp_path)]
    script = subprocess.Popen([sys.executable, str(SCRIPT), *words], stdout=subprocess.DEVNULL)
    while not (tmp_path / "check-decode.jsonl").exists():
        time.sleep(0.1)

    script.terminate()

    assert script.wait(timeout=10) == 143
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert "the script was stopped" in [row.get("error") for row in rows]


@pytest.mark.slow
def test_every_part_runs_at_toy_sizes(tmp_path):
    done = run_script(tmp_path, "--dry-run", "--seconds", "600")

    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert not [row for row in rows if "error" in row]
    found = {row["part"].split("-")[0] for row in rows}
    assert found == set("check decode prefill engine writes peers torch_peers hf".split())
    replaced = [row["note"] for row in rows if row["case"].startswith("triton")]
    assert replaced and all("the reference in its place" in note for note in replaced)
    assert "| mosaic decode" in (tmp_path / "gpu.md").read_text()


@pytest.mark.gpu
def test_every_kernel_is_right_on_this_gpu(tmp_path):
    run_script(tmp_path, "--parts", "check", "--seconds", "500")

    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert len(rows) > 90
    wrong = [f"{row['case']}: {row.get('error', row)}" for row in rows if row["verdict"] is False]
    assert not wrong, "\n".join(wrong)
