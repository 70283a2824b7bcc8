"""The scheduler that an engine with the same options would have."""

from dataclasses import fields
from typing import Any

from jpaged.config import EngineConfig
from jpaged.errors import ConfigError
from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.cost import CostModel, Costs
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.scheduler import Scheduler

# those of an engine's options that its scheduler depends on, with the engine's defaults
OPTIONS = (
    "max_model_len",
    "page_size",
    "num_pages",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "num_host_pages",
    "preemption_mode",
    "async_scheduling",
    "seed",
)
CONTEXT = 2048  # max_model_len where nothing is said: there is no model to ask
DEFAULTS: dict[str, Any] = {
    each.name: each.default for each in fields(EngineConfig) if each.name in OPTIONS
} | {"max_model_len": CONTEXT}


def check_options(given: dict[str, Any], cost_model: CostModel | None = None) -> EngineConfig:
    """The options, with defaults for those not given: what the cost model was measured with, if it
    was.  Raises `ConfigError`, as an engine would, and where it was measured with others."""
    unknown = given.keys() - DEFAULTS.keys()
    if unknown:
        raise ConfigError(
            f"a simulation has no option {', '.join(sorted(unknown))}; there are "
            f"{', '.join(DEFAULTS)}"
        )
    measured: dict[str, Any] = getattr(cost_model, "engine", {})
    given = {name: measured[name] for name in measured if name in DEFAULTS} | given
    if check := getattr(cost_model, "check", None):
        check(DEFAULTS | given)
    if given.get("num_host_pages") == 0:  # said in experiments; an engine's is None
        given = given | {"num_host_pages": None}
    config = EngineConfig("simulated", **DEFAULTS | given)
    longest, budget = config.max_model_len, config.max_num_batched_tokens
    assert longest is not None
    if not config.enable_chunked_prefill and budget < longest:
        raise ConfigError(
            f"without chunked prefill a prompt is one step's work, and max_num_batched_tokens "
            f"({budget}) is less than max_model_len ({longest}); raise the one or lower the other"
        )
    return config


def build_scheduler(policy: Policy, cost_model: CostModel, config: EngineConfig) -> Scheduler:
    """A replica's.  Without num_pages: as many as the cost model says fit, or else all that the
    seats can fill."""
    longest, seats, page_size = config.max_model_len, config.max_num_seqs, config.page_size
    assert longest is not None
    pages_per_sequence = -(-longest // page_size)
    num_pages = config.num_pages
    if num_pages is None:
        fitting = getattr(cost_model, "num_pages", None)
        num_pages = seats * pages_per_sequence
        num_pages = num_pages if fitting is None else min(num_pages, fitting(page_size))
    if num_pages * page_size < longest:
        raise ConfigError(
            f"{num_pages} pages of {page_size} tokens do not hold one sequence of {longest} "
            "(max_model_len); lower it or raise num_pages"
        )
    budget = min(config.max_num_batched_tokens, seats * longest)
    buckets = getattr(cost_model, "buckets", None) or BucketLadder.build(
        budget, seats, pages_per_sequence
    )
    return Scheduler(
        PagePool(num_pages, page_size),
        policy,
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        enable_prefix_caching=config.enable_prefix_caching,
        enable_chunked_prefill=config.enable_chunked_prefill,
        num_host_pages=config.num_host_pages or 0,
        swaps=config.preemption_mode != "recompute",
        buckets=buckets,
        costs=Costs(cost_model, buckets),
        seed=config.seed,
    )
