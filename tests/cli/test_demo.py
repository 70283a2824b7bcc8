"""The demo, as `make demo` runs it."""

import re
import subprocess
import sys

from rich.console import Console

from jpaged.demo.screen import Line, Screen
from jpaged.engine.llm_engine import LLMEngine


def test_the_demo_writes_several_texts_at_once_and_ends_with_its_figures():
    command = [sys.executable, "-m", "jpaged.demo", "--max-tokens", "40"]

    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert len(re.findall(r"^\[story \d\]", out, re.MULTILINE)) >= 4
    assert re.search(r"[\d,]+ tokens/s, at most 4 together", out)
    assert re.search(r"pages used +at most \d+ of 96", out)
    assert re.search(r"waste +\d+\.\d% of the memory held", out)
    assert "0 compiled after warm-up" in out


def test_on_a_terminal_it_draws_the_texts_and_a_cell_for_each_page():
    engine = LLMEngine("demo", num_pages=20, max_model_len=64, max_num_seqs=2, warmup="none")
    engine.add_request("story 1", "Once upon a time")
    console = Console(force_terminal=True, width=100, height=30, record=True)

    with Screen(console, engine, {"story 1": Line("Once upon a time")}) as screen:
        screen.show(engine.step())
    engine.close()

    picture = console.export_text()
    assert "[story 1] Once upon a time" in picture
    pages = [line for line in picture.splitlines() if line.startswith("pages")]
    assert pages[-1].count("■") == 20
    assert "1 running" in picture
