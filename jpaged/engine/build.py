"""From an `EngineConfig` to the parts of an engine: model, cache, executor, scheduler.

config ─► folder ─► model ─► lengths and pages ─► executor (compiled) and scheduler
"""

import logging
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from jpaged import policies
from jpaged.config import EngineConfig
from jpaged.engine.pretend import PretendedExecutor, words_of
from jpaged.engine.pretended_costs import pretended_costs, pretended_pages
from jpaged.engine.progress import progress
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import ConfigError, UnsupportedModel
from jpaged.layers.paged import KVSpec
from jpaged.models.loading import AbstractModel, load_params, read_folder
from jpaged.runner.compilation_cache import use_compilation_cache
from jpaged.runner.executor import DeviceExecutor
from jpaged.runner.memory import (
    CacheBytes,
    bytes_per_page,
    free_bytes,
    plan_host_pages,
    plan_pages,
)
from jpaged.runner.packing import pack_for_cpu
from jpaged.runner.program import StepProgram
from jpaged.runner.step_input import StepPacker
from jpaged.scheduling.buckets import BucketLadder
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.places import places_wanted
from jpaged.scheduling.scheduler import Scheduler
from jpaged.weights.folder import find_folder
from jpaged.weights.functional import Params, num_bytes
from pallas_kernels.paged_attention import explain, page_order

logger = logging.getLogger("jpaged")


@dataclass(frozen=True)
class Sizes:
    """What an engine settled on, from its options, the model and the memory."""

    max_model_len: int
    num_pages: int
    page_size: int
    max_num_batched_tokens: int
    max_num_seqs: int
    num_host_pages: int = 0
    window: int | None = None  # how far back any layer looks; None if one looks at everything
    windows: tuple[tuple[int, int], ...] = ()  # narrower ones, and how many places they have
    cache_bytes: int = 0

    @property
    def pages_per_sequence(self) -> int:
        return math.ceil(self.max_model_len / self.page_size)

    @cached_property
    def buckets(self) -> BucketLadder:
        return BucketLadder.build(
            self.max_num_batched_tokens, self.max_num_seqs, self.pages_per_sequence
        )


def plan_sizes(config: EngineConfig, model: AbstractModel) -> Sizes:
    """Settles lengths and pages.  Raises `ConfigError` where they are at odds."""
    longest = config.max_model_len or model.max_positions
    if longest > model.max_positions:
        raise ConfigError(
            f"max_model_len={longest} is beyond the model's {model.max_positions} positions; "
            "lower it"
        )
    window = common_window(model.kv_spec)
    places = narrower_windows(config, model.kv_spec)
    cache_bytes = plan_bytes(model, config.page_size, places)
    wanted_pages = config.max_num_seqs * math.ceil(longest / config.page_size)
    num_pages = plan_pages(
        cache_bytes,
        wanted_pages,
        num_pages=config.num_pages or pretended_pages(config, wanted_pages),
        kv_cache_memory_bytes=config.kv_cache_memory_bytes,
        gpu_memory_utilization=config.gpu_memory_utilization,
        weight_bytes=num_bytes(model.params),
    )
    longest = _fit_length(config, longest, num_pages * config.page_size)
    budget = config.max_num_batched_tokens
    if not config.enable_chunked_prefill and budget < longest:
        raise ConfigError(
            f"without chunked prefill a step must hold a whole sequence: max_num_batched_tokens "
            f"({budget}) is less than max_model_len ({longest}); raise the one or lower the other"
        )
    # a step never needs more tokens than all seats hold
    budget = min(budget, config.max_num_seqs * longest)
    page_bytes = bytes_per_page(model.kv_spec, config.page_size, model.dtype)
    return Sizes(
        max_model_len=longest,
        num_pages=num_pages,
        page_size=config.page_size,
        max_num_batched_tokens=budget,
        max_num_seqs=config.max_num_seqs,
        num_host_pages=plan_host_pages(page_bytes, config.num_host_pages, config.swap_space),
        window=window,
        # with a place for every page there is nothing to give back
        windows=tuple((each, most) for each, most in places.items() if most < num_pages),
        cache_bytes=cache_bytes(num_pages),
    )


def common_window(kv_spec: tuple[KVSpec, ...]) -> int | None:
    """The widest window, if every layer has one: what lies behind it no layer reads."""
    windows = [spec.window for spec in kv_spec]
    return None if None in windows else max(window for window in windows if window is not None)


def narrower_windows(config: EngineConfig, kv_spec: tuple[KVSpec, ...]) -> dict[int, int]:
    """The windows of layers that see less than others, and how many places each needs at most."""
    widest = common_window(kv_spec)
    narrower = sorted({spec.window for spec in kv_spec if spec.window} - {widest})
    seats, budget = config.max_num_seqs, config.max_num_batched_tokens
    return {each: places_wanted(each, config.page_size, seats, budget) for each in narrower}


def plan_bytes(model: AbstractModel, page_size: int, places: dict[int, int]) -> CacheBytes:
    """What a cache will take."""

    def size_of(*layers: KVSpec) -> int:
        return bytes_per_page(layers, page_size, model.dtype)

    layers = model.kv_spec
    return CacheBytes(
        page=size_of(*(spec for spec in layers if spec.window not in places)),
        windows=tuple(
            (most, size_of(*(spec for spec in layers if spec.window == window)))
            for window, most in places.items()
        ),
    )


def _fit_length(config: EngineConfig, longest: int, capacity: int) -> int:
    """The cache must hold one sequence of full length; a length nobody asked for gives way."""
    if longest <= capacity:
        return longest
    if config.max_model_len is not None or capacity < 2:
        raise ConfigError(
            f"a cache of {capacity} tokens is too small for one sequence of {longest} "
            "(max_model_len); lower max_model_len, or raise num_pages or kv_cache_memory_bytes"
        )
    logger.info("max_model_len is %d: the cache holds no longer sequence", capacity)
    return capacity


def build_model(config: EngineConfig, *, with_weights: bool = True) -> tuple[Path, AbstractModel]:
    """with_weights: they are wanted later, and are downloaded if they are not there."""
    folder = find_folder(config.model, config.revision, with_weights=with_weights)
    return folder, read_folder(folder, config.dtype)


def build_tokenizer(config: EngineConfig, folder: Path, vocab: int) -> Tokenizer | None:
    if config.skip_tokenizer_init:
        return None
    # a revision is the model's, and its folder is of that revision already
    if config.tokenizer:
        folder = find_folder(config.tokenizer, with_weights=False)
    tokenizer = Tokenizer.load(folder)
    # tokens that were added later may be beyond the model: a prompt with one is refused
    size = tokenizer.backend.get_vocab_size(with_added_tokens=False)
    if size > vocab:
        raise UnsupportedModel(
            f"the tokenizer in {folder} has {size} tokens and the model {vocab}: they do not "
            "belong together; name another with tokenizer=…"
        )
    return tokenizer


def build_executor(
    config: EngineConfig,
    folder: Path,
    model: AbstractModel,
    sizes: Sizes,
    tokenizer: Tokenizer | None,
) -> DeviceExecutor:
    """Loads the weights, builds the cache and compiles the steps, with progress; or pretends to."""
    if config.pretend is not None:
        # no device's, but it answers to all that an engine asks of one
        return cast(DeviceExecutor, build_pretended(config, model, sizes, tokenizer))
    use_compilation_cache()
    if sizes.cache_bytes > free_bytes():
        raise ConfigError(
            f"a cache of {sizes.num_pages} pages takes {sizes.cache_bytes} bytes, "
            f"{free_bytes()} are free; lower num_pages or kv_cache_memory_bytes"
        )
    params = pack_for_cpu(model.graph, _load(config, folder, model))
    packer = StepPacker(
        sizes.num_pages,
        sizes.page_size,
        model.vocab,
        sizes.max_model_len,
        sizes.max_num_seqs,
        dict(sizes.windows),
    )
    program = StepProgram(
        model.graph, params, model.kv_spec, packer, model.dtype, config.max_logprobs
    )
    buckets = sizes.buckets
    swaps = sizes.num_host_pages > 0
    order = page_order(*attention_shape(model, sizes))
    executor = DeviceExecutor(program, params, buckets, config.jit_monitor, swaps, order)
    plan = executor.compiled.plan(config.warmup)
    logger.info("%s", buckets.describe(num_now=len(plan)))
    if logger.isEnabledFor(logging.INFO):  # to find out takes arrays, and compiling their zeros
        logger.info("attention: %s", "; ".join(attention_kernels(model, sizes)))
    with progress(len(plan), "Compiling", "step", config.use_tqdm_on_load) as bar:
        executor.warm_up(config.warmup, lambda bucket: bar.update())
    return executor


def build_pretended(
    config: EngineConfig, model: AbstractModel, sizes: Sizes, tokenizer: Tokenizer | None
) -> PretendedExecutor:
    """Raises `ConfigError` for costs that were measured of an engine with other options."""
    costs = pretended_costs(config)
    assert costs is not None
    if check := getattr(costs, "check", None):
        check(asdict(sizes) | {"async_scheduling": config.async_scheduling})
    words = words_of(tokenizer, model.vocab, model.eos_token_ids)
    return PretendedExecutor(costs, sizes.buckets, sizes.num_pages, words)


def attention_kernels(model: AbstractModel, sizes: Sizes) -> list[str]:
    """Who attends in the model's steps on this device, and why not others; a line for each job."""
    return explain(*attention_shape(model, sizes))


def attention_shape(model: AbstractModel, sizes: Sizes) -> tuple[int, int, int, int, str]:
    """What choosing a kernel takes: heads, kv heads, head dim, page size, dtype."""
    kv = model.kv_spec[0]
    return model.config.heads, kv.kv_heads, kv.head_dim, sizes.page_size, str(model.dtype)


def _load(config: EngineConfig, folder: Path, model: AbstractModel) -> Params:
    with progress(0, "Loading weights", "B", config.use_tqdm_on_load) as bar:

        def on_bytes(now: int, total: int) -> None:
            bar.total = total
            bar.update(now)

        return load_params(folder, model, on_bytes)


def build_scheduler(config: EngineConfig, sizes: Sizes) -> Scheduler:
    costs = config.cost_model or pretended_costs(config)
    return Scheduler(
        PagePool(sizes.num_pages, sizes.page_size, windows=dict(sizes.windows)),
        policies.resolve(config.policy),
        max_num_seqs=sizes.max_num_seqs,
        max_num_batched_tokens=sizes.max_num_batched_tokens,
        enable_prefix_caching=config.enable_prefix_caching,
        enable_chunked_prefill=config.enable_chunked_prefill,
        num_host_pages=sizes.num_host_pages,
        window=sizes.window,
        swaps=config.preemption_mode != "recompute",
        buckets=sizes.buckets,
        costs=None if costs is None else Costs(costs, sizes.buckets),
        seed=config.seed,
    )
