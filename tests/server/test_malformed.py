"""What is no proper request is refused within a second, in OpenAI's shape, and harms nobody."""

import json
import time
from typing import Any

import pytest
from malformed import BODIES, FIELDS, HEADERS, ROUTES, TEXT, WIRE, chat, completion
from servers import Running, raw, status_of

SECONDS = 1.0


def assert_refused(answer: Any, status: int | None = None) -> None:
    error = answer.json()["error"]
    assert answer.status_code == status or (status is None and 400 <= answer.status_code < 500)
    assert answer.elapsed.total_seconds() < SECONDS
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert error["type"].endswith("Error")
    assert error["code"] == answer.status_code
    assert "\n" not in answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


def assert_refused_raw(server: Running, request: bytes, status: int) -> None:
    start = time.monotonic()

    answer = raw(server.address, request)

    assert time.monotonic() - start < SECONDS
    assert status_of(answer) == status
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_that_is_wrong_is_refused(server: Running, case: str):
    path, body = FIELDS[case]
    with server.client() as client:
        answer = client.post(path, json=body)

        assert_refused(answer)
        assert client.get("/health").status_code == 200
    assert server.service.live == set()


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_proper_json_is_refused(server: Running, case: str):
    body, status = BODIES[case]
    with server.client() as client:
        answer = client.post(
            "/v1/completions", content=body, headers={"content-type": "application/json"}
        )

        assert_refused(answer, status)
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_is_wrong_is_refused(server: Running, case: str):
    headers, status = HEADERS[case]
    with server.client() as client:
        answer = client.post("/v1/completions", json=TEXT, headers=headers)

        assert_refused(answer, status)
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("case", ROUTES)
def test_a_route_that_is_none_is_refused(server: Running, case: str):
    method, path, status = ROUTES[case]
    request = f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()

    assert_refused_raw(server, request, status)


@pytest.mark.parametrize("case", WIRE)
def test_what_is_no_proper_http_is_refused(server: Running, case: str):
    request, status = WIRE[case]

    assert_refused_raw(server, request, status)


def test_the_field_that_is_wrong_is_named(server: Running):
    with server.client() as client:
        unknown = client.post("/v1/completions", json={**TEXT, "tempersture": 1}).json()["error"]
        wrong = client.post("/v1/completions", json={**TEXT, "top_p": 7}).json()["error"]

    assert unknown["param"] == "tempersture"
    assert "unknown field" in unknown["message"]
    assert "top_p must be above 0 and at most 1, not 7" in wrong["message"]


def test_a_field_of_several_forms_is_told_of_in_one_sentence(server: Running):
    part = {"type": "image_url", "image_url": {"url": "http://x"}}
    with server.client() as client:

        def said(request: tuple[str, Any]) -> str:
            return client.post(request[0], json=request[1]).json()["error"]["message"]

        prompts = {said(completion(prompt=wrong)) for wrong in (5, [], ["Hi", 5], [True])}
        assert len(prompts) == 1 and prompts.pop().startswith(
            "prompt must be a text, a list of texts, a list of token ids, or a list of such lists; "
        )
        assert said(completion(stop=[5])).startswith("stop must be a text or a list of at most 16")
        assert said(completion(n=257)) == "n: Input should be less than or equal to 256"
        images = said(chat(messages=[{"role": "user", "content": [part]}]))
        assert images == "messages.0.content: images are not there yet."
        text = said(chat(messages=[{"role": "user", "content": 5}]))
        assert text.startswith("messages.0.content must be a text, or a list of parts")


def test_streams_are_refused_before_their_headers_too(server: Running):
    with server.client() as client:
        for path, body in (
            completion(temperature=-1),
            completion(prompt="word " * 3000),
            chat(n=0),
        ):
            assert_refused(client.post(path, json={**body, "stream": True}), 400)


def test_a_body_that_does_not_arrive_is_given_up(server: Running, monkeypatch):
    monkeypatch.setattr("jpaged.server.limits.BODY_SECONDS", 0.2)
    monkeypatch.setattr("jpaged.server.limits.LINGER_SECONDS", 0.1)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"

    for rest in (b"content-length: 50\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"):
        assert status_of(raw(server.address, head + rest)) == 408


def test_headers_that_do_not_arrive_are_given_up(server: Running, monkeypatch):
    monkeypatch.setattr("jpaged.server.limits.HEADER_SECONDS", 0.2)

    for begun in (b"", b"GET /health HTTP/1.1\r\nhost"):
        assert status_of(raw(server.address, begun)) == 408


def test_an_id_that_is_proper_comes_back(server: Running):
    with server.client() as client:
        answer = client.post("/v1/completions", json=TEXT, headers={"x-request-id": "a.B-9_"})
        own = client.post("/v1/completions", json={**TEXT, "request_id": "mine"})

        assert answer.headers["x-request-id"] == "a.B-9_"
        assert answer.json()["id"] == "cmpl-a.B-9_"
        assert own.json()["id"] == "cmpl-mine"


def test_the_log_holds_no_prompt(server: Running, caplog):
    caplog.set_level("DEBUG")
    with server.client() as client:
        client.post("/v1/completions", json={**TEXT, "prompt": "my secret diary"})
        client.post("/v1/completions", json={**TEXT, "prompt": "my secret diary", "n": 0})

    assert "secret" not in caplog.text
