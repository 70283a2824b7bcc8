"""/openapi.json tells the truth: what it promises is what is answered."""

from typing import Any

import jsonschema
import pytest
from servers import Running

HELLO = [{"role": "user", "content": "Hi"}]
TEXT = {"prompt": "Hi", "max_tokens": 3}
CALLS: dict[str, tuple[str, str, Any]] = {
    "completion": ("post", "/v1/completions", TEXT),
    "completion with all": (
        "post",
        "/v1/completions",
        {**TEXT, "n": 2, "logprobs": 2, "prompt_logprobs": 1, "return_token_ids": True},
    ),
    "chat": ("post", "/v1/chat/completions", {"messages": HELLO, "max_tokens": 3}),
    "chat with all": (
        "post",
        "/v1/chat/completions",
        {
            **{"messages": HELLO, "max_tokens": 3, "logprobs": True, "top_logprobs": 2},
            **{"prompt_logprobs": 1, "return_token_ids": True},
        },
    ),
    "models": ("get", "/v1/models", None),
    "tokenize": ("post", "/tokenize", {"prompt": "Hi", "return_token_strs": True}),
    "tokenize a chat": ("post", "/tokenize", {"messages": HELLO}),
    "detokenize": ("post", "/detokenize", {"tokens": [5, 6]}),
    "health": ("get", "/health", None),
    "ping": ("post", "/ping", None),
    "version": ("get", "/version", None),
    "load": ("get", "/load", None),
    "versions": ("get", "/admin/models", None),
    "no model": ("post", "/v1/completions", {**TEXT, "model": "none"}),
    "no sense": ("post", "/v1/completions", {**TEXT, "n": 0}),
    "no folder": ("post", "/admin/models/load", {"model": "x", "path": "y"}),
    "no body": ("post", "/tokenize", None),
    "ollama": ("post", "/api/generate", {"model": "demo", "prompt": "Hi", "stream": False}),
    "ollama's stream": ("post", "/api/chat", {"model": "demo", "messages": HELLO}),
    "ollama's models": ("get", "/api/tags", None),
    "no sense to ollama": ("post", "/api/chat", {"model": 5}),
    "kserve": ("get", "/v2", None),
    "no method of kserve's": ("post", "/v2", {}),
}


@pytest.fixture
def document(server: Running) -> dict[str, Any]:
    with server.client() as client:
        return client.get("/openapi.json").json()


@pytest.mark.parametrize("case", CALLS)
def test_an_answer_is_as_documented(server: Running, document: dict, case: str):
    method, path, body = CALLS[case]
    with server.client() as client:
        answer = client.request(method, path, json=body)

    operation = document["paths"][path].get(method) or document["paths"][path]["get"]
    documented = operation["responses"][str(answer.status_code)]
    schema = documented["content"][answer.headers["content-type"]]["schema"]
    is_json = answer.headers["content-type"] == "application/json"
    jsonschema.Draft202012Validator(schema).validate(answer.json() if is_json else answer.text)


def test_every_route_tells_of_its_refusals_and_none_promises_422(document: dict):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            codes = set(operation["responses"])
            expected = {"200", "400", "401", "404", "405"}
            if "requestBody" in operation:
                expected |= {"408", "413", "415"}
            assert expected <= codes, f"{method} {path}"
            assert "422" not in codes, f"{method} {path}"


def test_a_method_that_is_none_is_told_which_there_are(server: Running):
    with server.client() as client:
        assert client.delete("/ping").headers["allow"] == "GET, POST"
        assert client.get("/v1/completions").headers["allow"] == "POST"
        assert client.delete("/openapi.json").status_code == 405


def test_head_is_get_without_a_body(server: Running):
    with server.client() as client:
        for path in ("/", "/health", "/v1/models", "/api/tags"):
            head, got = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(got.content))
        assert client.head("/v1/completions").status_code == 405
        assert client.head("/nothing").status_code == 404


def test_a_route_that_is_none_is_404_in_the_words_of_its_protocol(server: Running):
    with server.client(headers={"content-type": "text/plain"}) as client:

        def said(path: str) -> Any:
            answer = client.post(path, content="Hi")
            assert answer.status_code == 404
            return answer.json()["error"]

        assert said("/v1/nothing")["message"] == "Not Found"
        assert said("/v1/responses")["message"] == "/v1/responses is not there yet."
        assert said("/v1/embeddings")["message"] == "/v1/embeddings is not there yet."
        assert said("/api/nothing") == said("/v2/nothing") == "Not Found"
        assert said("/api/embed") == "/api/embed is not there yet."
        assert client.get("/api/chat").json() == {"error": "Method Not Allowed"}


def test_bodies_are_documented_as_strict(document: dict):
    schemas = document["components"]["schemas"]
    for name in ("CompletionRequest", "ChatCompletionRequest", "StreamOptions"):
        assert schemas[name]["additionalProperties"] is False
    assert schemas["CompletionRequest"]["required"] == ["prompt"]
    properties = schemas["CompletionRequest"]["properties"]
    assert properties["max_tokens"]["default"] == 16


def test_it_has_vllms_fields(document: dict):
    """Those that make sense for a model of text without structure, adapters or experts."""
    ours = set(document["components"]["schemas"]["ChatCompletionRequest"]["properties"])
    vllms = """
        messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens
        max_completion_tokens n presence_penalty response_format seed stop stream stream_options
        temperature top_p tools tool_choice reasoning_effort parallel_tool_calls user
        use_beam_search top_k min_p repetition_penalty stop_token_ids include_stop_str_in_output
        ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens
        truncate_prompt_tokens prompt_logprobs allowed_token_ids bad_words echo
        add_generation_prompt continue_final_message add_special_tokens chat_template
        chat_template_kwargs structured_outputs priority request_id session_id
        return_tokens_as_token_ids return_token_ids cache_salt
    """
    assert set(vllms.split()) <= ours
