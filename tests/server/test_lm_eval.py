"""lm-eval measures through the server what transformers computes itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from servers import DEMO, Running, running
from test_clients import CLIENTS, heard, python_with
from transformers import AutoModelForCausalLM, AutoTokenizer

import jpaged

DEMO_FOLDER = Path(jpaged.__file__).parent / "assets" / "demo"
STORIES = [json.loads(line) for line in (CLIENTS / "story_endings.jsonl").read_text().splitlines()]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exact_server() -> Iterator[Running]:
    with running({**DEMO, "dtype": "float32"}) as server:
        yield server


def likelihoods() -> list[list[tuple[float, bool]]]:
    """Of each ending of each story: its log-probability, and whether it is the greedy one."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER)
    model: Any = AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype=torch.float32).eval()

    def of(start: str, ending: str) -> tuple[float, bool]:
        before, tokens = (tokenizer(text).input_ids for text in (start, f"{start} {ending}"))
        assert tokens[: len(before)] == before
        with torch.no_grad():
            logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        places, said = range(len(before) - 1, len(tokens) - 1), tokens[len(before) :]
        total = sum(
            logprobs[place, token].item() for place, token in zip(places, said, strict=True)
        )
        is_greedy = all(
            int(logprobs[place].argmax()) == token
            for place, token in zip(places, said, strict=True)
        )
        return total, is_greedy

    return [[of(story["start"], ending) for ending in story["endings"]] for story in STORIES]


def test_lm_eval_measures_what_transformers_computes(exact_server: Running):
    expected = likelihoods()

    python = python_with("lm_eval")
    found = heard(python, "lm_eval_client.py", exact_server, str(DEMO_FOLDER))

    for ours, theirs in zip(found["endings"], expected, strict=True):
        assert [total for total, _ in ours] == pytest.approx([each for each, _ in theirs], abs=1e-3)
        assert [is_greedy for _, is_greedy in ours] == [each for _, each in theirs]
    right = [
        max(range(len(each)), key=lambda at: each[at][0]) == story["best"]
        for each, story in zip(expected, STORIES, strict=True)
    ]
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert 0 < sum(right)
