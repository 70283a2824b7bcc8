"""Everything a user may set about an engine, with vLLM's names and defaults where it has them."""

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.policy import Policy

DTYPES = ("auto", "float32", "bfloat16", "float16")
JIT_MONITOR_MODES = ("warn", "error", "off")
PREEMPTION_MODES = (None, "swap", "recompute")
WARMUPS = ("none", "minimal", "full")
BOOLEANS = (
    *("skip_tokenizer_init", "trust_remote_code", "enable_prefix_caching"),
    *("enable_chunked_prefill", "async_scheduling", "use_tqdm_on_load"),
)
# options of vLLM that many scripts pass; naming them makes the refusal clearer
VLLMS = frozenset(
    """enforce_eager disable_log_stats load_format tokenizer_mode kv_cache_dtype
    download_dir cpu_offload_gb distributed_executor_backend hf_overrides compilation_config
    quantization pipeline_parallel_size enable_lora max_loras speculative_config hf_token
    disable_custom_all_reduce limit_mm_per_prompt tokenizer_revision""".split()
)
ALIASES = {"block_size": "page_size", "scheduling_policy": "policy"}


@dataclass(frozen=True)
class EngineConfig:
    """Options of an engine.  Raises `ConfigError`, naming every bad value.

    model: a folder, or a name on the Hugging Face hub.  dtype: "auto" follows the checkpoint.
    max_model_len: prompt and output together; None is the model's own, or what the cache holds.
    page_size: tokens a page.  The cache's size is num_pages, or else kv_cache_memory_bytes, or
    else a share of the device's memory.  policy: a name, or an object with `propose` and
    `victim`.  cost_model: predicts a step's seconds, for policies that ask.  swap_space: GiB of
    host memory for the pages of preempted sequences, or so many num_host_pages; preemption_mode:
    "swap" while there is room, the default, or "recompute".  async_scheduling: schedule a step
    while the one before it runs.  warmup: which step shapes to compile before the first request:
    "full" all, "minimal" those that serve anything (the others follow in the background), "none".
    jit_monitor: what happens when something is compiled after that.  pretend: a cost model, or a
    text that names one ("constant:0.05", "roofline:model=llama-8b,gpu=H200"): nothing is loaded
    nor computed, steps take as long as it says and answer words in no order; see
    `engine/pretend.py`.
    """

    model: str
    tokenizer: str | None = None
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    revision: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    page_size: int = 16
    num_pages: int | None = None
    kv_cache_memory_bytes: int | None = None
    gpu_memory_utilization: float = 0.92
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    max_logprobs: int = 20
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    swap_space: float = 0.0
    num_host_pages: int | None = None
    preemption_mode: str | None = None
    policy: str | Policy = "fcfs"
    cost_model: CostModel | None = None
    async_scheduling: bool = True
    seed: int = 0
    warmup: str = "minimal"
    jit_monitor: str = "warn"
    use_tqdm_on_load: bool = True
    tensor_parallel_size: int = 1
    pretend: CostModel | str | None = None

    @classmethod
    def from_options(cls, model: str, **options: Any) -> "EngineConfig":
        """Takes keywords, aliases too; an unknown one is an error that suggests the nearest."""
        known = {f.name for f in dataclasses.fields(cls)}
        resolved: dict[str, Any] = {}
        for name, value in options.items():
            target = ALIASES.get(name, name)
            if target not in known:
                raise ConfigError(_unknown(name, known))
            if target in resolved:
                alias = next(a for a in (name, *ALIASES) if ALIASES.get(a) == target)
                raise ConfigError(f"{alias} and {target} are one option; give it once")
            resolved[target] = value
        return cls(model=str(model), **resolved)

    def __post_init__(self) -> None:
        problems = [
            *self._kind_problems(),
            *self._range_problems(),
            *self._choice_problems(),
        ]
        problems += [] if problems else self._budget_problems()
        if problems:
            raise ConfigError("; ".join(problems))

    def _kind_problems(self):
        """Python takes "no" for true, and 1.5 for a number of pages."""
        for name in BOOLEANS:
            if not isinstance(getattr(self, name), bool):
                yield f"{name} must be True or False, not {getattr(self, name)!r}"
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            yield f"seed must be a whole number, not {self.seed!r}"

    def _range_problems(self):
        for name in ("page_size", "max_num_seqs", "max_num_batched_tokens"):
            yield from _at_least_one(name, getattr(self, name))
        for name in ("max_model_len", "num_pages", "kv_cache_memory_bytes", "num_host_pages"):
            if getattr(self, name) is not None:
                yield from _at_least_one(name, getattr(self, name))
        share, most = self.gpu_memory_utilization, self.max_logprobs
        if not isinstance(share, int | float) or not 0 < share <= 1:
            yield f"gpu_memory_utilization must be in (0, 1], not {share!r}"
        if not isinstance(most, int) or not 0 <= most <= 1000:
            yield f"max_logprobs must be from 0 to 1000, not {most!r}"
        space = self.swap_space
        is_number = isinstance(space, int | float) and not isinstance(space, bool)
        if not is_number or not 0 <= space < math.inf:
            yield f"swap_space must be GiB of host memory, not {self.swap_space!r}"
        if self.max_model_len == 1:
            yield "max_model_len=1 has no room for a prompt and a token; raise it"

    def _budget_problems(self):
        """For counts that are counts."""
        if self.max_num_batched_tokens < self.max_num_seqs:
            yield (
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least "
                f"max_num_seqs ({self.max_num_seqs}), or some sequences never get a token; "
                "lower max_num_seqs or raise max_num_batched_tokens"
            )

    def _choice_problems(self):
        for name, allowed in (
            ("dtype", DTYPES),
            ("jit_monitor", JIT_MONITOR_MODES),
            ("warmup", WARMUPS),
            ("preemption_mode", PREEMPTION_MODES),
        ):
            if getattr(self, name) not in allowed:
                names = ", ".join(map(str, allowed))
                yield f"{name} must be one of {names}, not {getattr(self, name)!r}"
        if self.num_pages is not None and self.kv_cache_memory_bytes is not None:
            yield "num_pages and kv_cache_memory_bytes both size the cache; give one of them"
        if self.swap_space and self.num_host_pages is not None:
            yield "swap_space and num_host_pages both size the host's pool; give one of them"
        if self.preemption_mode == "swap" and not (self.swap_space or self.num_host_pages):
            yield 'preemption_mode="swap" needs room on the host: set swap_space or num_host_pages'
        if self.cost_model is not None and not hasattr(self.cost_model, "seconds"):
            yield f"cost_model must have a method `seconds`, not be {self.cost_model!r}"
        is_costs = isinstance(self.pretend, str) or hasattr(self.pretend, "seconds")
        if self.pretend is not None and not is_costs:
            yield f"pretend must name or be a cost model, not {self.pretend!r}"
        if isinstance(self.policy, type):
            yield f"policy is the class {self.policy.__name__}; pass an object, call it first"
        if self.trust_remote_code:
            yield "trust_remote_code runs code from a checkpoint, which jpaged never does"
        if self.tensor_parallel_size != 1:
            yield f"tensor_parallel_size={self.tensor_parallel_size} is not there yet; use 1"


def _at_least_one(name: str, value: object):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        yield f"{name} must be a whole number of at least 1, not {value!r}"


def _unknown(name: str, known: set[str]) -> str:
    if name in VLLMS:
        return f"{name} is an option of vLLM's that jpaged does not have; leave it out"
    near = difflib.get_close_matches(name, [*known, *ALIASES], 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
    return f"no engine option {name!r}{hint}"
