"""Keys: which requests they let in, and which they do not."""

import time
from collections.abc import Iterator

import pytest
from servers import PRETEND, Running, raw, running, status_of

KEYS = ("first-key", "second-key")
TEXT = {"prompt": "Hi", "max_tokens": 2}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    with running(PRETEND, api_key=KEYS) as server:
        yield server


def routes(server: Running) -> list[tuple[str, str]]:
    """All there are, by the application's own account."""
    with server.client(headers={"authorization": "Bearer first-key"}) as client:
        paths = client.get("/openapi.json").json()["paths"]
    named = [(method, path.replace("{model}", "demo")) for path in paths for method in paths[path]]
    return [
        *named,
        ("get", "/openapi.json"),
        ("get", "/metrics"),
        ("get", "/"),
        ("get", "/nothing"),
    ]


def test_every_route_but_the_probes_asks_for_a_key(guarded: Running):
    with guarded.client() as client:
        found = {
            path: client.request(method, path, json=TEXT if method == "post" else None)
            for method, path in routes(guarded)
        }

    is_open = {path for path, answer in found.items() if answer.status_code != 401}
    assert is_open == {"/health", "/ping"}
    assert len(found) > 10
    refusal = found["/v1/completions"]
    assert refusal.json()["error"]["type"] == "AuthenticationError"
    assert refusal.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens(guarded: Running, key: str):
    with guarded.client(headers={"authorization": f"Bearer {key}"}) as client:
        assert client.post("/v1/completions", json=TEXT).status_code == 200
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer first-ke",
        "Bearer first-key1",
        "Bearer first-key second-key",
        "Bearer  first-key",
        "Basic first-key",
        "first-key",
        "Bearer FIRST-KEY",
    ],
)
def test_anything_else_does_not(guarded: Running, value: str):
    request = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: {value}\r\n\r\n"

    assert status_of(raw(guarded.address, request.encode())) == 401


@pytest.mark.parametrize(
    "path",
    [
        "//v1/models",
        "/v1//models",
        "/health/../v1/models",
        "/health%2f..%2fv1/models",
        "/v1%2fmodels",
        "/%76%31/models",
        "/ping/v1/models",
        "/health/",
        "/HEALTH",
        "http://x/v1/models",
        "/v1/models?/health",
        "/v1/models#/health",
        "/health;/v1/models",
    ],
)
def test_no_spelling_of_a_path_goes_around_the_keys(guarded: Running, path: str):
    request = f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"

    assert status_of(raw(guarded.address, request.encode())) in (400, 401, 404)


def test_two_keys_in_one_request_do_not_open(guarded: Running):
    lines = "authorization: Bearer first-key\r\n" * 2
    request = f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{lines}\r\n"

    assert status_of(raw(guarded.address, request.encode())) == 401


def test_a_request_smuggled_in_a_body_is_not_another(guarded: Running):
    inner = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    request = f"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: {len(inner)}\r\n\r\n{inner}"

    answer = raw(guarded.address, request.encode())

    assert answer.count(b"HTTP/1.1 ") == 1
    assert status_of(answer) == 200


def test_a_strangers_body_is_not_waited_for(guarded: Running):
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    endless = f"{head}content-length: 8000000\r\n\r\n{{"
    start = time.monotonic()

    assert status_of(raw(guarded.address, endless.encode())) == 401
    assert time.monotonic() - start < 1
    with guarded.client() as client:
        assert client.post("/v1/completions", json={"prompt": "a" * (32 << 20)}).status_code == 401


def test_a_key_is_not_told_to_policies_and_logs(guarded: Running):
    seen = []
    guarded.service.listeners.append(lambda started, outcome: seen.append(started.ask))
    with guarded.client(headers={"authorization": "Bearer second-key"}) as client:
        client.post("/v1/completions", json=TEXT)
    guarded.service.listeners.pop()

    [ask] = seen
    assert ask.client.startswith("key-")
    assert ask.terms.client == ask.client
    assert "second-key" not in repr(ask)
    assert "second-key" not in repr(guarded.options)


def test_models_are_administered_with_a_key_from_anywhere(guarded: Running):
    headers = {"authorization": "Bearer first-key", "x-forwarded-for": "1.2.3.4"}
    with guarded.client(headers=headers) as client:
        assert client.get("/admin/models").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}, {"host": "evil.example"}],
)
def test_models_are_administered_without_a_key_from_this_machine_only(server, headers):
    with server.client() as client:
        assert client.get("/admin/models").status_code == 200
        assert client.get("/admin/models", headers=headers).status_code == 403


def test_pages_of_other_sites_may_call_only_where_that_was_allowed(server: Running):
    asks = {"origin": "http://page.example", "access-control-request-method": "POST"}
    with server.client() as client:
        assert client.options("/v1/completions", headers=asks).status_code == 405
        assert "access-control-allow-origin" not in client.get("/v1/models", headers=asks).headers
    with (
        running(PRETEND, api_key=("k",), allowed_origins=("http://page.example",)) as open_one,
        open_one.client() as client,
    ):
        allowed = client.options("/v1/completions", headers=asks)
        assert allowed.headers["access-control-allow-origin"] == "http://page.example"
        refused = client.post("/v1/completions", json=TEXT, headers=asks)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "http://page.example"
