"""Spans of requests, as OpenTelemetry's own exporter in memory receives them."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from servers import Running, eventually, running

from jpaged.server import tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a collector at the endpoint would get."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "exporter", lambda endpoint: SimpleSpanProcessor(exporter))
    return exporter


class Collector(HTTPServer):
    """Takes what an exporter sends, as the protocol's own messages."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"
        self.requests: list[ExportTraceServiceRequest] = []


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector) and self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def traced(spans: InMemorySpanExporter) -> Iterator[Running]:
    with running(otlp_traces_endpoint="http://127.0.0.1:4318/v1/traces") as server:
        yield server


def only(spans: InMemorySpanExporter) -> tuple[ReadableSpan, dict[str, Any]]:
    assert eventually(spans.get_finished_spans)
    [span] = spans.get_finished_spans()
    return span, dict(span.attributes or {})


def test_a_request_is_a_span_below_that_of_its_client(traced: Running, spans):
    with traced.client() as client:
        client.get("/health")
        client.post(
            "/v1/completions",
            json={
                "prompt": "Once upon a time",
                "max_tokens": 9,
                "temperature": 0.5,
                "ignore_eos": True,
            },
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "fox"},
        )
    span, found = only(spans)

    assert (span.name, span.kind) == ("llm_request", SpanKind.SERVER)
    assert span.context is not None and f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None and f"{span.parent.span_id:016x}" == PARENT
    assert span.status.status_code == StatusCode.UNSET
    assert found["gen_ai.request.id"] == "cmpl-fox-0"
    assert found["gen_ai.request.max_tokens"] == found["gen_ai.usage.completion_tokens"] == 9
    assert found["gen_ai.request.temperature"] == 0.5
    assert found["gen_ai.response.model"] == "demo"
    assert found["gen_ai.usage.prompt_tokens"] == 4
    assert not [value for value in found.values() if "upon" in str(value)]


def test_its_times_are_those_of_the_engine_and_add_up(traced: Running, spans):
    with traced.client() as client:
        client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 20, "ignore_eos": True})
    span, found = only(spans)

    queue, prefill, decode = (
        found[f"gen_ai.latency.time_in_{each}"]
        for each in ("queue", "model_prefill", "model_decode")
    )
    # a pretended step takes 2 ms; the first answer may be heard of a little late
    assert 0.9 * 19 * 0.002 < decode < 2
    assert queue + prefill <= found["gen_ai.latency.time_to_first_token"]
    assert queue + prefill + decode <= found["gen_ai.latency.e2e"] < 2
    assert span.start_time is not None and span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(
        found["gen_ai.latency.e2e"], abs=1e-5
    )
    [event] = span.events
    assert span.start_time < event.timestamp < span.end_time


def test_what_was_cut_off_is_an_error(traced: Running, spans):
    body = {"prompt": "Hi", "max_tokens": 400, "ignore_eos": True}
    with traced.client() as client:
        answer = client.post("/v1/completions", json=body, headers={"X-Request-Timeout": "0.05"})
    assert answer.status_code == 504
    span, found = only(spans)

    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "deadline")
    assert found["jpaged.outcome"] == "deadline" and found["http.response.status_code"] == 504


def test_a_collector_gets_them_over_http(collector: Collector, monkeypatch):
    processor = tracing.exporter(collector.url)
    monkeypatch.setattr(tracing, "exporter", lambda endpoint: processor)
    with running(otlp_traces_endpoint=collector.url) as server, server.client() as client:
        client.post("/v1/completions", json={"prompt": ["Hi", "Ho"], "max_tokens": 3})
    assert processor.force_flush(5000)

    [request] = collector.requests
    [resource] = request.resource_spans
    [scope] = resource.scope_spans
    assert [span.name for span in scope.spans] == ["llm_request", "llm_request"]
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert about["service.name"] == "jpaged"
    processor.shutdown()


def test_without_an_endpoint_nobody_imports_opentelemetry():
    code = (
        "import sys; from jpaged.server import serve; "
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
