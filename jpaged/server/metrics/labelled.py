"""What is exported of each engine with more labels than its own: reasons, sources, states."""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jpaged.server.metrics.engine_meter import EngineMeter
from jpaged.server.models import Served

FINISHED = ("stop", "length", "abort", "error", "repetition")
OUTCOMES = ("finished", "disconnected", "deadline", "failed", "aborted")
REFUSED = ("max_num_queued_reqs", "max_num_queued_tokens", "max_requests_per_key")
AWAKE = {"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0}
Value = tuple[dict[str, str], float]  # with its own labels


class Metered(NamedTuple):
    """An engine, its numbers, and the labels that all its series have."""

    served: Served
    meter: EngineMeter
    labels: dict[str, str]


def of_vllm(prefix: str, engines: list[Metered]) -> Iterator[Metric]:
    """Those with vLLM's names."""
    yield _gauges(
        prefix + "num_requests_waiting_by_reason",
        "Waiting sequences: for room (capacity), or for something else (deferred).",
        [(each, _reasons(each.meter)) for each in engines],
    )
    yield _gauges(
        prefix + "engine_sleep_state",
        "awake = 1: an engine never sleeps.",
        [(each, [({"sleep_state": s}, v) for s, v in AWAKE.items()]) for each in engines],
    )
    yield _counters(
        prefix + "prompt_tokens_by_source",
        "Tokens of prompts: computed here, found in the cache, or brought from elsewhere.",
        [(each, _sources(each.meter)) for each in engines],
    )
    yield _counters(
        prefix + "prompt_tokens_cached_by_source",
        "Tokens of prompts that were found, by where.",
        [(each, _tiers(each.meter)) for each in engines],
    )
    yield _counters(
        prefix + "request_success",
        "Sequences that ended, by how.",
        [(each, _counted(each.meter.finished, "finished_reason", FINISHED)) for each in engines],
    )
    rejections = CounterMetricFamily(
        prefix + "admission_rejections",
        "Requests that found no room in the queue, by the limit that was reached.",
        labels=("model_name", "reason"),
    )
    for name, (created, refused) in _refused(engines).items():
        for reason in REFUSED:
            rejections.add_metric((name, reason), refused[reason], created=created)
    yield rejections
    yield _gauges(
        prefix + "cache_config_info",
        "The page pool, in vLLM's words.",
        [(each, [(_cache(each.served), 1.0)]) for each in engines],
    )
    adapters = GaugeMetricFamily(
        prefix + "lora_requests_info",
        "Adapters that run and wait; there are none.",
        labels=("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
    )
    adapters.add_metric(("0", "", ""), time.time())
    yield adapters


def of_ours(prefix: str, engines: list[Metered]) -> Iterator[Metric]:
    """Those with our own names."""
    yield _gauges(
        prefix + "model_info",
        "What is served.",
        [(each, [(_model(each.served), 1.0)]) for each in engines],
    )
    yield _gauges(
        prefix + "engine_healthy",
        "1 while the engine answers.",
        [(each, [({}, float(each.served.engine.is_healthy))]) for each in engines],
    )
    yield _gauges(
        prefix + "queued_requests",
        "Requests that were let in and have not begun to answer.",
        [(each, [({}, each.served.admission.num_queued)]) for each in engines],
    )
    yield _gauges(
        prefix + "queued_tokens",
        "Tokens of their prompts.",
        [(each, [({}, each.served.admission.num_queued_tokens)]) for each in engines],
    )
    yield _counters(
        prefix + "requests",
        "Requests that are over, by how they ended for the client.",
        [(each, _counted(each.meter.outcomes, "outcome", OUTCOMES)) for each in engines],
    )


def _reasons(meter: EngineMeter) -> list[Value]:
    return [({"reason": "capacity"}, meter.stats.num_waiting), ({"reason": "deferred"}, 0.0)]


def _sources(meter: EngineMeter) -> list[Value]:
    found = meter.num_cached_tokens
    amounts = {
        "local_compute": meter.num_prompt_tokens - found,
        "local_cache_hit": found,
        "external_kv_transfer": 0,
    }
    return [({"source": source}, amount) for source, amount in amounts.items()]


def _tiers(meter: EngineMeter) -> list[Value]:
    tiers = ("device", "host", "p2p", "disk", "external_unspecified")
    found = meter.num_cached_tokens
    return [({"source": tier}, found if tier == "device" else 0.0) for tier in tiers]


def _counted(counts: dict[str, int], label: str, names: Iterable[str]) -> list[Value]:
    return [({label: name}, counts.get(name, 0)) for name in names]


def _refused(engines: list[Metered]) -> dict[str, tuple[float, dict[str, int]]]:
    """Of each model, all its versions together: when it began, and counts by reason."""
    found: dict[str, tuple[float, dict[str, int]]] = {}
    for served, meter, labels in engines:
        name, refused = labels["model_name"], served.admission.refused
        created, counts = found.get(name, (meter.created, {}))
        counts = {reason: counts.get(reason, 0) + refused[reason] for reason in REFUSED}
        found[name] = min(created, meter.created), counts
    return found


def _cache(served: Served) -> dict[str, str]:
    card = served.engine.card
    num_tokens = card.num_pages * card.page_size
    return {
        "block_size": str(card.page_size),
        "num_gpu_blocks": str(card.num_pages),
        "cache_dtype": card.dtype,
        "kv_cache_size_tokens": str(num_tokens),
        "kv_cache_max_concurrency": str(num_tokens / card.max_model_len),
    }


def _model(served: Served) -> dict[str, str]:
    card = served.engine.card
    return {
        "version": served.version,
        "policy": card.policy,
        "architecture": card.architecture,
        "dtype": card.dtype,
    }


def _gauges(name: str, text: str, values: list[tuple[Metered, list[Value]]]) -> Metric:
    family = GaugeMetricFamily(name, text)
    for each, own in values:
        for labels, value in own:
            family.add_sample(name, each.labels | labels, value)
    return family


def _counters(name: str, text: str, values: list[tuple[Metered, list[Value]]]) -> Metric:
    family = CounterMetricFamily(name, text)
    for each, own in values:
        for labels, value in own:
            family.add_sample(f"{name}_total", each.labels | labels, value)
            family.add_sample(f"{name}_created", each.labels | labels, each.meter.created)
    return family
