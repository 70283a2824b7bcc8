"""What a page of another site can make a browser send, and what only programs send."""

from typing import Any

import httpx
import pytest
from servers import PRETEND, Running, raw, running, status_of

TEXT: dict[str, Any] = {"model": "demo", "prompt": "Hi", "stream": False}
OLLAMA = '{"model": "demo", "prompt": "Hi", "stream": false, "options": {"num_predict": 2}}'
TRITON = '{"text_input": "Hi", "parameters": {"max_tokens": 2}}'
OPENAI = '{"prompt": "Hi", "max_tokens": 2}'
ROUTES = {
    "/api/generate": OLLAMA,
    "/v2/models/demo/generate": TRITON,
    "/v1/completions": OPENAI,
    "/generate": '{"prompt": "Hi", "max_new_tokens": 2}',
    "/tokenize": '{"prompt": "Hi"}',
}
LENIENT = ("/api/generate", "/v2/models/demo/generate")
# what curl -d says, what Triton's client does, and what a page may send without asking first
TYPES = ["application/x-www-form-urlencoded", "application/octet-stream", "text/plain"]
PAGES = [
    {"origin": "http://page.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
]


def post(server: Running, path: str, headers: dict[str, str]) -> httpx.Response:
    with server.client() as client:
        return client.post(path, content=ROUTES[path], headers=headers)


@pytest.mark.parametrize("kind", TYPES)
def test_programs_may_call_json_what_they_like_where_theirs_do(server: Running, kind: str):
    statuses = {path: post(server, path, {"content-type": kind}).status_code for path in ROUTES}

    assert statuses == {path: 200 if path in LENIENT else 415 for path in ROUTES}


@pytest.mark.parametrize("path", LENIENT)
def test_they_may_not_call_it_anything(server: Running, path: str):
    body = ROUTES[path].encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n".encode()

    assert status_of(raw(server.address, head + b"\r\n" + body)) == 200


@pytest.mark.parametrize("headers", PAGES, ids=str)
@pytest.mark.parametrize("path", ROUTES)
def test_a_page_gets_nothing_unless_a_browser_asked_first(server: Running, path, headers):
    for kind in TYPES:
        assert post(server, path, {**headers, "content-type": kind}).status_code == 415
    # for this type a browser asks first, and is not told that it may
    assert post(server, path, {**headers, "content-type": "application/json"}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-16", "text/plain; charset=latin-1"]
)
def test_other_characters_than_utf8_are_refused_everywhere(server: Running, kind: str):
    for path in ROUTES:
        assert post(server, path, {"content-type": kind}).status_code == 415


def test_a_refusal_in_ollamas_words_follows_a_wrong_body_without_a_type(server: Running):
    with server.client() as client:
        answer = client.post(
            "/api/generate",
            content='{"model": "demo", "prompt": 5}',
            headers={"content-type": TYPES[0]},
        )

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("prompt: ")


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:8000",
        "REBOUND.EXAMPLE.",
        "127.0.0.1.rebound.example",
        "localhost.rebound.example",
        "[::1].rebound.example",
        "rebound.local",
        "256.0.0.1",
    ],
)
def test_a_name_that_public_dns_could_give_is_not_this_machines(server: Running, host: str):
    with server.client(headers={"host": host}) as client:
        assert client.get("/v1/models").status_code == 403
        assert client.get("/").status_code == 403
        assert client.post("/v1/completions", json=TEXT).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"),
        *("192.168.1.5", "fox", "fox:80", "demo.localhost", "host.docker.internal:8000"),
    ],
)
def test_names_of_this_network_are(server: Running, host: str):
    with server.client(headers={"host": host}) as client:
        assert client.get("/v1/models").status_code == 200


def test_a_site_that_may_call_may_also_be_a_name_of_ours(server: Running):
    host = {"host": "chat.example"}
    origins = ("https://chat.example",)
    with running(PRETEND, allowed_origins=origins) as theirs, theirs.client(headers=host) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/models", headers={"host": "other.example"}).status_code == 403
    with server.client(headers=host) as client:
        error = client.get("/v1/models").json()["error"]
        assert "--allowed-origins http://chat.example" in error["message"]
