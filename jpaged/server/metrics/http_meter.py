"""Counts HTTP requests, under the names and labels of the instrumentation that vLLM uses."""

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

from jpaged.server.exchange import Exchange
from jpaged.server.metrics import bounds


class HttpMeter:
    """Its series, in a registry.  Streams count when they end."""

    def __init__(self, registry: CollectorRegistry, prefix: str):
        names = ("handler", "method", "status")
        text = "Requests by route, method and kind of status."
        self.requests = Counter("http_requests", text, names, registry=registry)
        self.prefixed = self.requests
        if prefix:
            self.prefixed = Counter(f"{prefix}http_requests", text, names, registry=registry)
        self.received = Summary(
            "http_request_size_bytes",
            "Content-Length of requests.",
            ("handler",),
            registry=registry,
        )
        self.sent = Summary(
            "http_response_size_bytes",
            "Content-Length of answers.",
            ("handler",),
            registry=registry,
        )
        self.seconds = Histogram(
            "http_request_duration_highr_seconds",
            "How long requests took, in many buckets.",
            buckets=bounds.HTTP,
            registry=registry,
        )
        self.seconds_by_handler = Histogram(
            "http_request_duration_seconds",
            "The same by route and method, in few buckets.",
            ("handler", "method"),
            buckets=bounds.HTTP_BY_HANDLER,
            registry=registry,
        )

    def add(self, exchange: Exchange) -> None:
        route, method = exchange.route, exchange.method
        labels = route, method, f"{exchange.status // 100}xx"
        self.requests.labels(*labels).inc()
        if self.prefixed is not self.requests:
            self.prefixed.labels(*labels).inc()
        self.received.labels(route).observe(exchange.num_received)
        self.sent.labels(route).observe(exchange.num_sent)
        self.seconds.observe(exchange.seconds)
        self.seconds_by_handler.labels(route, method).observe(exchange.seconds)
