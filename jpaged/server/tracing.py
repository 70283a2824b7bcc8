"""OpenTelemetry spans: one for each request to an engine, in the words of vLLM and of `gen_ai`.

    client's span (traceparent) ─► llm_request ─► collector

Spans are made when a request is over, from times that are known then, and sent in a thread of the
SDK's: a request does not wait for its trace.  Needs `pip install 'jpaged[otel]'`.
"""

import time
from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from jpaged import __version__
from jpaged.server.exchange import Exchange
from jpaged.server.service import Started

Attributes = dict[str, str | int | float]
NANOSECONDS = 1e9
EXPORT_SECONDS = 2.0  # the server waits for it when it ends


def exporter(endpoint: str) -> SpanProcessor:
    """Sends spans to a collector, in batches, behind everybody's back.  Those of one that does not
    answer are given up."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS))


class Tracing:
    """Makes spans of exchanges."""

    def __init__(self, processor: SpanProcessor):
        resource = Resource.create({"service.name": "jpaged", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("jpaged", __version__)
        self._contexts = TraceContextTextMapPropagator()

    def add(self, exchange: Exchange) -> None:
        if not exchange.over:
            return
        parent = self._contexts.extract(dict(_trace_headers(exchange)))
        for started, outcome in exchange.over:
            self._trace(exchange, started, outcome, parent)

    def _trace(self, exchange: Exchange, started: Started, outcome: str, parent: Context) -> None:
        to_wall = time.time() - time.monotonic()
        span = self._tracer.start_span(
            "llm_request",
            context=parent,
            kind=SpanKind.SERVER,
            start_time=_nanoseconds(started.request.arrival + to_wall),
            attributes=attributes(exchange, started, outcome),
        )
        if started.progress.first is not None:
            span.add_event("first_token", timestamp=_nanoseconds(started.progress.first + to_wall))
        if outcome != "finished":
            span.set_status(Status(StatusCode.ERROR, outcome))
        span.end(_nanoseconds(_end(exchange, started) + to_wall))

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def attributes(exchange: Exchange, started: Started, outcome: str) -> Attributes:
    """Ids, sizes, times and what was asked for; no word of a prompt or an answer."""
    params, progress, arrival = started.ask.params, started.progress, started.request.arrival
    found: Attributes = {
        "gen_ai.request.id": started.request.id,
        "gen_ai.request.n": params.n,
        "gen_ai.request.max_tokens": started.request.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.response.model": started.served.name,
        "gen_ai.usage.num_sequences": params.num_samples,
        "gen_ai.usage.prompt_tokens": len(started.prompt_token_ids),
        "gen_ai.usage.completion_tokens": progress.num_tokens,
        "jpaged.cached_tokens": progress.num_cached,
        "gen_ai.latency.e2e": _end(exchange, started) - arrival,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "jpaged.outcome": outcome,
        "jpaged.model_version": started.served.version,
    }
    if progress.first is not None:
        found["gen_ai.latency.time_to_first_token"] = progress.first - arrival
    return found | dict(_phases(started))


def _end(exchange: Exchange, started: Started) -> float:
    """When its last token came; for one that was cut off, when that was over."""
    latest = started.progress.latest
    return exchange.ended if latest is None or started.progress.stats is None else latest


def _phases(started: Started) -> Iterator[tuple[str, float]]:
    """How long it was where, as the engine tells with the last token."""
    stats = started.progress.stats
    if stats is None or stats.scheduled_ts is None:
        return
    scheduled, first, last = stats.scheduled_ts, stats.first_token_ts, stats.last_token_ts
    yield "gen_ai.latency.time_in_queue", scheduled - stats.queued_ts
    if first is not None and last is not None:
        yield "gen_ai.latency.time_in_model_prefill", first - scheduled
        yield "gen_ai.latency.time_in_model_decode", last - first
        yield "gen_ai.latency.time_in_model_inference", last - scheduled


def _trace_headers(exchange: Exchange) -> Iterator[tuple[str, str]]:
    for name in ("traceparent", "tracestate"):
        value = exchange.header(name.encode())
        if value is not None:
            yield name, value


def _nanoseconds(seconds: float) -> int:
    return int(seconds * NANOSECONDS)
