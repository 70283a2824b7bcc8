"""Who hears of each exchange: metrics always, the log, and traces if they were asked for."""

from collections.abc import Callable

from jpaged.server.exchange import Exchange, note
from jpaged.server.logs import RequestLog
from jpaged.server.metrics.exposition import Metrics
from jpaged.server.options import ServerOptions
from jpaged.server.service import Service


def watched(
    service: Service, options: ServerOptions
) -> tuple[Metrics, list[Callable[[Exchange], None]]]:
    """The metrics of a service, and what hears of its exchanges."""
    metrics = Metrics(service, options.metrics_prefix)
    service.listeners.append(note)
    watchers = [metrics.http.add]
    if options.log_requests or options.log_access:
        log = RequestLog(options.log_requests, options.log_access, options.log_json)
        watchers.append(log.add)
    if options.otlp_traces_endpoint:
        from jpaged.server.tracing import Tracing, exporter  # it needs an extra

        watchers.append(Tracing(exporter(options.otlp_traces_endpoint)).add)
    return metrics, watchers
