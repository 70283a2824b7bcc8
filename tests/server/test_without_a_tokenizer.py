"""--skip-tokenizer-init: prompts are token ids, and so are answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from servers import PRETEND, Running, events, running

PROMPT = [5, 6, 7]
HELLO = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running({**PRETEND, "skip_tokenizer_init": True}) as server:
        yield server


def post(server: Running, route: str = "/v1/completions", **fields: Any):
    with server.client() as http:
        return http.post(route, json=fields)


def test_token_ids_are_answered_with_token_ids(server: Running):
    [choice] = post(server, prompt=PROMPT, max_tokens=4, logprobs=1).json()["choices"]

    assert choice["text"] == ""
    assert choice["prompt_token_ids"] == PROMPT
    assert len(choice["token_ids"]) == 4
    assert choice["logprobs"]["tokens"] == [f"token_id:{each}" for each in choice["token_ids"]]


def test_a_stream_has_them_too(server: Running):
    asked = {"prompt": PROMPT, "max_tokens": 6, "seed": 1}
    [whole] = post(server, **asked).json()["choices"]

    *chunks, done = events(post(server, **asked, stream=True).text)

    tokens = [token for chunk in chunks for token in chunk["choices"][0]["token_ids"]]
    assert tokens == whole["token_ids"]
    assert len(chunks) > 1 and done == "[DONE]"


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/completions", {"prompt": PROMPT, "stop": "x"}),
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/tokenize", {"prompt": "Hi"}),
        ("/detokenize", {"tokens": PROMPT}),
        ("/generate", {"prompt": "Hi", "max_length": 9}),
        ("/api/generate", {"model": "demo", "prompt": "Hi"}),
        ("/api/chat", {"model": "demo", "messages": HELLO}),
        ("/v2/models/demo/generate", {"text_input": "Hi"}),
    ],
)
def test_what_needs_text_is_refused(server: Running, route: str, fields: dict[str, Any]):
    answer = post(server, route, **fields)

    assert answer.status_code == 400
    assert "tokenizer" in answer.text


def test_all_else_is_as_ever(server: Running):
    with server.client() as http:
        for route in ("/health", "/metrics", "/page/models", "/api/tags", "/v2/models/demo"):
            assert http.get(route).status_code == 200
        shown = http.post("/api/show", json={"model": "demo"}).json()
    assert shown["template"] == ""
