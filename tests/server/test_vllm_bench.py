"""`vllm bench serve`, unmodified, measures our server.

JPAGED_VLLM names the command `vllm` of an environment that has it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from servers import Running

import jpaged

TOKENIZER = Path(jpaged.__file__).parent / "assets" / "demo"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", ["vllm", "openai-chat"])
def test_vllms_benchmark_measures_us(demo_server: Running, tmp_path: Path, backend: str):
    command = shutil.which(os.environ.get("JPAGED_VLLM", "vllm"))
    if command is None:
        pytest.skip("there is no vllm; JPAGED_VLLM names the command")
    endpoint = "/v1/chat/completions" if backend == "openai-chat" else "/v1/completions"
    flags = {
        **{"backend": backend, "base-url": demo_server.url, "endpoint": endpoint, "model": "demo"},
        **{"tokenizer": TOKENIZER, "dataset-name": "random", "num-prompts": 12},
        **{"random-input-len": 20, "random-output-len": 8, "request-rate": 50},
        **{"result-dir": tmp_path, "result-filename": "result.json"},
    }
    ran = subprocess.run(
        [command, "bench", "serve", *(f"--{key}={value}" for key, value in flags.items())]
        + ["--ignore-eos", "--save-result", "--disable-tqdm"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    assert "Serving Benchmark Result" in ran.stdout
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["completed"], found["failed"]) == (12, 0)
    assert found["total_output_tokens"] == 12 * 8
    assert found["median_ttft_ms"] > 0 and found["median_tpot_ms"] > 0
