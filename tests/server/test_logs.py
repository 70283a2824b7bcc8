"""The log of requests: one line when each is over, with ids and counts and nobody's words."""

import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator

import pytest
from servers import Running, eventually, process, running

from jpaged.server.exchange import Exchange
from jpaged.server.logs import Patient, RequestLog, log

SECRET = "The treasure lies under the old oak"


class Kept(logging.Handler):
    """Lines, as they would be written."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, level = Kept(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


class Stuck(io.StringIO):
    """A file that takes no line until it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(10)
        return super().write(text)


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_request_is_one_line_with_its_id_and_its_counts(server: Running, kept: Kept):
    with server.client() as client:
        client.post(
            "/v1/completions",
            json={"prompt": SECRET, "max_tokens": 7, "ignore_eos": True},
            headers={"X-Request-Id": "fox-1"},
        )
        client.get("/health")

    assert eventually(lambda: kept.lines)
    [line] = kept.lines
    assert line.startswith("fox-1 POST /v1/completions: 200 finished, demo@1, ")
    assert re.search(r"demo@1, \d+ \+ 7 tokens \(\d+ cached\), ttft 0\.\d+ s, 0\.\d+ s$", line)
    assert "treasure" not in line and "oak" not in line


def test_lines_are_json_if_one_wants_and_the_rest_is_there_with_the_access_log(kept: Kept):
    with running(log_json=True, log_access=True) as server, server.client() as client:
        body = {
            "messages": [{"role": "user", "content": SECRET}],
            "max_tokens": 3,
            "n": 2,
            "stream": True,
        }
        answer = client.post("/v1/chat/completions", json=body, headers={"X-Request-Id": "a"})
        assert answer.status_code == 200
        client.post("/v1/completions", json={"prompt": SECRET, "secret": SECRET})
        client.get(f"/{SECRET}")
        assert eventually(lambda: len(kept.lines) == 3)

    chat, refused, lost = map(json.loads, kept.lines)
    assert SECRET not in "".join(kept.lines)
    assert chat["request_id"] == "a" and chat["output_tokens"] == 2 * 3
    assert chat["prompt_tokens"] > 5 and 0 < chat["ttft"] < chat["seconds"] < 5
    assert chat["finish_reasons"] == ["length"] and chat["outcome"] == "finished"
    assert (refused["route"], refused["status"]) == ("/v1/completions", 400)
    assert refused["reason"] == "secret: unknown field"
    assert (lost["route"], lost["status"]) == ("none", 404)


def test_what_is_refused_is_one_line_with_its_path_and_why_and_no_words(
    server: Running, kept: Kept
):
    body = {"prompt": SECRET, "max_tokens": 2}
    words = [{"role": SECRET.replace(" ", "-"), "content": SECRET}]
    with server.client(headers={"X-Request-Id": "fox-2"}) as client:
        client.post("/v1/completions", json={**body, "n": 0})
        client.post("/v1/completions", json={**body, "model": SECRET})
        client.post("/v1/completions", json={**body, "bad_words": [""]})
        client.post("/v1/chat/completions", json={"messages": words})
        client.post("/v1/nothing?key=" + SECRET)
        client.post("/v1/completions", content=b"x" * (9 << 20))
        assert eventually(lambda: len(kept.lines) == 6)

    assert not re.search("treasure|oak", "".join(kept.lines))
    told = [re.sub(r", \d+\.\d+ s$", "", line) for line in kept.lines]
    assert told[0].startswith("fox-2 POST /v1/completions: 400 n: Input should be greater")
    assert told[1] == "fox-2 POST /v1/completions: 404 The model '…' does not exist"
    assert told[2].startswith("fox-2 POST /v1/completions: 400 bad_words ")
    assert "400 the chat template refused the messages" in told[3]
    assert told[4] == "fox-2 POST /v1/nothing: 404 Not Found"
    assert told[5].startswith("fox-2 POST /v1/completions: 413 The body is over the limit")


def test_who_is_refused_again_and_again_fills_no_log(kept: Kept):
    requests = RequestLog()
    refused = Exchange({"method": "GET", "headers": (), "raw_path": b"/x"}, 0.0, status=404)
    for number in range(50):
        refused.ended = 7 + number / 1000
        requests.add(refused)
    refused.ended = 8.0
    requests.add(refused)

    assert len(kept.lines) == 11
    assert kept.lines[-1] == " GET /x: 404, 8.000 s (40 refusals before it left out)"


def test_who_goes_away_is_told_of(server: Running, kept: Kept):
    body = {"prompt": "Hi", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with server.client() as client, client.stream("POST", "/v1/completions", json=body) as stream:
        lines = stream.iter_lines()
        assert next(lines)
    assert eventually(lambda: kept.lines)
    assert ": 200 disconnected, demo@1, " in kept.lines[0]


def test_who_does_not_read_the_log_holds_nobody_up():
    file = Stuck()
    handler = Patient(file, most=4)
    begin = time.monotonic()
    for number in range(100):
        handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))
    assert time.monotonic() - begin < 1
    assert handler.num_dropped in (95, 96)  # one may have been on its way already

    file.go.set()
    assert eventually(lambda: file.getvalue().count("\n") + handler.num_dropped == 100)
    assert file.getvalue().startswith("line 0\nline 1\nline 2\n")
    handler.close()


def test_a_full_disk_costs_lines_and_no_more():
    handler = Patient(Full())
    handler.emit(logging.makeLogRecord({"msg": "lost"}))
    assert eventually(lambda: handler.num_dropped == 1)
    handler.emit(logging.makeLogRecord({"msg": "lost, too"}))
    assert eventually(lambda: handler.num_dropped == 2)
    handler.close()


def test_a_server_writes_them_on_stdout_and_its_engines_process_tells_the_metrics():
    flags = ("demo", "--pretend", "constant:0.002", "--port", "0", "--log-json")
    with process(*flags) as server, server.client() as client:
        client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 5, "ignore_eos": True})
        assert server.process.stdout is not None
        found = json.loads(server.process.stdout.readline())
        metrics = client.get("/metrics").text

    assert (found["route"], found["output_tokens"]) == ("/v1/completions", 5)
    labels = '{engine="0",model_name="demo"}'
    assert f"vllm:generation_tokens_total{labels} 5.0" in metrics
    assert f"vllm:inter_token_latency_seconds_count{labels} 4.0" in metrics
    assert f"vllm:e2e_request_latency_seconds_count{labels} 1.0" in metrics
    assert f"jpaged:step_host_seconds_count{labels} 5.0" in metrics
