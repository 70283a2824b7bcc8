"""All numbers as Prometheus reads them, made when somebody asks."""

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from jpaged import __version__
from jpaged.server.metrics.catalogue import OURS, VLLM, Count, Gauge, Spread
from jpaged.server.metrics.engine_meter import EngineMeter
from jpaged.server.metrics.http_meter import HttpMeter
from jpaged.server.metrics.labelled import Metered, of_ours, of_vllm
from jpaged.server.models import Served
from jpaged.server.service import Service, Started

OUR_PREFIX = "jpaged:"
ENGINE_LABELS = ("engine", "model_name")


class Metrics(Collector):
    """Hears of everything from the day it is made.  prefix: of the names that are vLLM's."""

    def __init__(self, service: Service, prefix: str = "vllm:"):
        self.service, self.models, self.prefix = service, service.models, prefix
        self._engines: dict[Served, Metered] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.http = HttpMeter(self.registry, prefix)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(self)
        for served in self.models:
            self.attach(served)
        self.models.listeners.append(self.attach)
        service.begun.append(self._begun)
        service.listeners.append(self._over)

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def attach(self, served: Served) -> None:
        """Hears of what this engine does from now on."""
        self._forget_unloaded()
        taken = {int(each.labels["engine"]) for each in self._engines.values()}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        meter = EngineMeter(served.engine.stats)
        served.engine.listeners.append(meter.hear)
        labels = {"engine": str(number), "model_name": served.name}
        self._engines[served] = Metered(served, meter, labels)

    def _forget_unloaded(self) -> None:
        there = set(self.models)
        for served in [each for each in self._engines if each not in there]:
            del self._engines[served]

    def _begun(self, started: Started) -> None:
        metered = self._engines.get(started.served)
        if metered is not None and started.progress.first is not None:
            metered.meter.first_token.add(started.progress.first - started.request.arrival)

    def _over(self, started: Started, outcome: str) -> None:
        metered = self._engines.get(started.served)
        if metered is None:  # its model was unloaded
            return
        meter, progress = metered.meter, started.progress
        meter.outcomes[outcome] += 1
        if outcome == "failed":
            meter.finished["error"] += started.request.params.num_samples
        if outcome == "finished":
            meter.asked_samples.add(started.ask.params.n)
            meter.asked_tokens.add(started.request.max_tokens)
            meter.max_generated_tokens.add(max(progress.num_tokens_of.values(), default=0))

    def collect(self) -> Iterator[Metric]:
        self._forget_unloaded()
        engines = list(self._engines.values())
        yield _build_info()
        for prefix, catalogue in ((self.prefix, VLLM), (OUR_PREFIX, OURS)):
            for entry in catalogue:
                yield _family(prefix, entry, engines)
        yield from of_vllm(self.prefix, engines)
        yield from of_ours(OUR_PREFIX, engines)


def _family(prefix: str, entry: Gauge | Count | Spread, engines: Iterable[Metered]) -> Metric:
    name, values = prefix + entry.name, [(each.labels, each.meter) for each in engines]
    match entry:
        case Gauge():
            gauges = GaugeMetricFamily(name, entry.help, labels=ENGINE_LABELS)
            for labels, meter in values:
                gauges.add_metric(_values(labels), entry.read(meter))
            return gauges
        case Count():
            counts = CounterMetricFamily(name, entry.help, labels=ENGINE_LABELS)
            for labels, meter in values:
                counts.add_metric(_values(labels), entry.read(meter), created=meter.created)
            return counts
        case Spread():
            spreads = HistogramMetricFamily(name, entry.help, labels=ENGINE_LABELS)
            for labels, meter in values:
                found = entry.read(meter)
                spreads.add_metric(_values(labels), found.cumulative(), found.sum)
                spreads.add_sample(f"{name}_created", labels, meter.created)
            return spreads


def _values(labels: dict[str, str]) -> list[str]:
    return [labels[name] for name in ENGINE_LABELS]


def _build_info() -> Metric:
    family = GaugeMetricFamily(
        OUR_PREFIX + "build_info", "What runs here.", labels=("version", "jax")
    )
    family.add_metric((__version__, version("jax")), 1.0)
    return family
