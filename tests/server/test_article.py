"""The example that many begin with: a model of GPT-2's kind, one command, a few lines of Python."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from servers import process
from tiny import save_tiny
from tiny_llama import VOCAB, tiny_tokenizer
from transformers import GPT2Config

from jpaged.server.serve import Exit

README = Path(__file__).parents[2] / "README.md"
PORT = 8000  # which the example assumes
QUICK = {"JPAGED_SERVE_WARMUP": "none", "JPAGED_SERVE_MAX_NUM_SEQS": "4"}  # less to compile
EXAMPLE = re.compile(r"`jpaged serve (--model gpt2-like)`.*?```python\n(.*?)```", re.DOTALL)


def example() -> tuple[list[str], str]:
    """The flags and the Python, as the README has them."""
    found = EXAMPLE.search(README.read_text())
    assert found is not None
    return found[1].split(), found[2]


def is_taken(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def where_gpt2_like_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "gpt2-like"
    save_tiny(folder, GPT2Config(vocab_size=VOCAB, n_positions=256, n_embd=32, n_layer=2, n_head=4))
    tiny_tokenizer().save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.skipif(is_taken(PORT), reason=f"somebody else listens at {PORT}")
def test_the_example_runs_as_it_stands(where_gpt2_like_lies: Path):
    flags, code = example()
    with process(*flags, env=QUICK) as server:
        assert server.url == f"http://127.0.0.1:{PORT}"
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | {"NO_PROXY": "localhost"},
            timeout=30,
        )
        with server.client() as http:
            [listed] = http.get("/v1/models").json()["data"]
        server.signal(signal.SIGTERM)
        ended, _ = server.wait()

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Once upon a time")
    assert len(ran.stdout) > len("Once upon a time") + 10
    assert listed["id"] == "gpt2-like"
    assert ended == Exit.DRAINED
