"""What is exported of each engine: name, where it is from, what it means.

Names in `VLLM` get the prefix (`vllm:` unless the user wants another), those in `OURS` get
`jpaged:`.  What has more labels than an engine's is in `labelled.py`.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from jpaged.server.metrics.engine_meter import EngineMeter
from jpaged.server.metrics.histogram import Histogram


class Gauge(NamedTuple):
    name: str
    read: Callable[[EngineMeter], float]
    help: str


class Count(NamedTuple):
    """name: without `_total`."""

    name: str
    read: Callable[[EngineMeter], float]
    help: str


class Spread(NamedTuple):
    """A histogram."""

    name: str
    read: Callable[[EngineMeter], Histogram]
    help: str


def total(name: str) -> Callable[[EngineMeter], float]:
    return lambda meter: meter.totals()[name]


def nothing(meter: EngineMeter) -> float:
    """Of what there is none here, but what somebody reads."""
    return 0.0


VLLM: tuple[Gauge | Count | Spread, ...] = (
    Gauge("num_requests_running", lambda m: m.stats.num_running, "Sequences that run."),
    Gauge("num_requests_waiting", lambda m: m.stats.num_waiting, "Sequences that wait."),
    Gauge("num_requests_swapped", lambda m: m.stats.num_swapped, "Sequences on the host."),
    Gauge("kv_cache_usage_perc", lambda m: m.stats.kv_cache_usage, "Pages held, from 0 to 1."),
    Gauge(
        "gpu_cache_usage_perc",
        lambda m: m.stats.kv_cache_usage,
        "The same by its former name, which autoscalers still ask for.",
    ),
    Gauge("cpu_cache_usage_perc", lambda m: m.stats.host_cache_usage, "Pages held on the host."),
    Gauge(
        "avg_prompt_throughput_toks_per_s",
        lambda m: m.throughput(time.monotonic())[0],
        "Prompt tokens a second, in the latest ten.",
    ),
    Gauge(
        "avg_generation_throughput_toks_per_s",
        lambda m: m.throughput(time.monotonic())[1],
        "Generated tokens a second, in the latest ten.",
    ),
    Count("prefix_cache_queries", total("queries"), "Prompt tokens looked up in the cache."),
    Count("prefix_cache_hits", total("hits"), "Prompt tokens found in the cache."),
    Count("external_prefix_cache_queries", nothing, "There is no cache elsewhere: 0."),
    Count("external_prefix_cache_hits", nothing, "There is no cache elsewhere: 0."),
    Count("num_preemptions", total("preemptions"), "How often a sequence had to give way."),
    Count("prompt_tokens", lambda m: m.num_prompt_tokens, "Tokens of prompts that were read."),
    Count("prompt_tokens_cached", lambda m: m.num_cached_tokens, "Those found in the cache."),
    Count("generation_tokens", lambda m: m.num_generated_tokens, "Tokens that were generated."),
    Count("num_requests_success", lambda m: m.num_successes, "Sequences that were finished."),
    Spread("request_prompt_tokens", lambda m: m.prompt_tokens, "A prompt's tokens."),
    Spread(
        "request_generation_tokens", lambda m: m.generated_tokens, "A sequence's generated tokens."
    ),
    Spread("iteration_tokens_total", lambda m: m.step_tokens, "Tokens computed in a step."),
    Spread(
        "request_max_num_generation_tokens",
        lambda m: m.max_generated_tokens,
        "Generated tokens of a request's longest sample.",
    ),
    Spread("request_params_n", lambda m: m.asked_samples, "Samples that a request asks for."),
    Spread("request_params_max_tokens", lambda m: m.asked_tokens, "max_tokens of a request."),
    Spread("time_to_first_token_seconds", lambda m: m.first_token, "From arrival to first token."),
    Spread("inter_token_latency_seconds", lambda m: m.gap, "From one token to the next."),
    Spread(
        "time_per_output_token_seconds",
        lambda m: m.gap,
        "The same by its former name, which routers still ask for.",
    ),
    Spread(
        "request_time_per_output_token_seconds",
        lambda m: m.tpot,
        "Seconds a token after the first, of a finished sequence.",
    ),
    Spread("e2e_request_latency_seconds", lambda m: m.latency, "From arrival to last token."),
    Spread("request_queue_time_seconds", lambda m: m.queue, "From arrival to being let in."),
    Spread("request_inference_time_seconds", lambda m: m.inference, "From then to last token."),
    Spread("request_prefill_time_seconds", lambda m: m.prefill, "From let in to first token."),
    Spread("request_decode_time_seconds", lambda m: m.decode, "From first token to last token."),
    Spread("request_num_preemptions", lambda m: m.preemptions, "How often a sequence gave way."),
    Spread(
        "request_prefill_kv_computed_tokens",
        lambda m: m.computed_prompt_tokens,
        "A prompt's tokens that were not in the cache.",
    ),
)

OURS: tuple[Gauge | Count | Spread, ...] = (
    Gauge(
        "recompute_tax",
        lambda m: m.stats.counts.recompute_tax,
        "The share of computed tokens that were computed before, of all so far.",
    ),
    Count("steps", total("steps"), "Steps of the serving loop."),
    Count("computed_tokens", total("computed"), "Tokens that were computed."),
    Count("recomputed_tokens", total("recomputed"), "Those computed before, until a preemption."),
    Count("pages_swapped_out", total("pages_out"), "Pages that went to the host."),
    Count("pages_swapped_in", total("pages_in"), "Pages that came back from the host."),
    Count("jit_compiles", total("compiled"), "Programs that were compiled."),
    Count(
        "late_jit_compiles", total("compiled_late"), "Those for which requests waited; 0, or a bug."
    ),
    Count(
        "client_disconnects",
        lambda m: m.outcomes["disconnected"],
        "Requests whose client went away before they were finished.",
    ),
    Spread(
        "bucket_padding_ratio",
        lambda m: m.padding,
        "The share of a step's token slots that held no token.",
    ),
    Spread("step_seconds", lambda m: m.step_seconds, "A step, from its begin to its answer."),
    Spread("step_host_seconds", lambda m: m.host_seconds, "Deciding, packing and sending a step."),
    Spread(
        "step_device_seconds",
        lambda m: m.device_seconds,
        "Waiting for a step's answer: the device's time that the host's work does not hide.",
    ),
    Spread(
        "policy_decision_seconds",
        lambda m: m.policy_seconds,
        "The policy's own part of deciding what runs in a step: its answers to all it is asked.",
    ),
)
