"""Flags for engine and sampling options, made from the dataclasses that define them."""

import argparse
import dataclasses
from typing import Any

from jpaged.config import (
    ALIASES,
    DTYPES,
    JIT_MONITOR_MODES,
    PREEMPTION_MODES,
    WARMUPS,
    EngineConfig,
)
from jpaged.errors import ConfigError
from jpaged.policies import NAMES as POLICIES
from jpaged.policies import resolve
from jpaged.sampling_params import SamplingParams

ENGINE_HELP = {
    "tokenizer": "folder or name of another tokenizer",
    "skip_tokenizer_init": "load no tokenizer: prompts are token ids, and so are answers",
    "revision": "branch, tag or commit on the hub",
    "dtype": "of weights and cache; auto follows the checkpoint",
    "max_model_len": "prompt and output together",
    "page_size": "tokens a page",
    "num_pages": "pages in the cache",
    "kv_cache_memory_bytes": "bytes of the cache",
    "gpu_memory_utilization": "share of a GPU's memory for weights and cache",
    "max_num_seqs": "sequences that run together",
    "max_num_batched_tokens": "tokens a step",
    "max_logprobs": "logprobs of a token that a request may ask for",
    "enable_prefix_caching": "keep pages of finished prompts for the next",
    "enable_chunked_prefill": "split long prompts over several steps",
    "policy": f"who runs next: {', '.join(POLICIES)}; sarathi:chunk=256; mine.py:MyPolicy",
    "swap_space": "GiB of the host's memory for pages of preempted sequences",
    "num_host_pages": "pages of preempted sequences on the host, in place of swap_space",
    "preemption_mode": "what preempted sequences do: swap, while there is room, or recompute",
    "seed": "for requests without one",
    "warmup": "which step shapes to compile at the start: none, minimal (the rest follows), full",
    "tensor_parallel_size": "1: several devices are not built yet",
    "jit_monitor": "what happens when something is compiled after warm-up",
}
SAMPLING_HELP = {
    "max_tokens": "most tokens to generate",
    "temperature": "0 is greedy",
    "top_k": "keep the k likeliest",
    "top_p": "keep the likeliest that reach this probability",
    "min_p": "keep those at least this likely, relative to the likeliest",
    "repetition_penalty": "above 1 discourages what was said",
    "n": "samples for each prompt",
    "best_of": "draw so many, return the n likeliest",
    "stop": "end at this text",
}
CHOICES = {
    "dtype": DTYPES,
    "jit_monitor": JIT_MONITOR_MODES,
    "warmup": WARMUPS,
    "preemption_mode": tuple(filter(None, PREEMPTION_MODES)),
}
KINDS = {"int": int, "float": float, "str": str}


def policy_text(text: str) -> str:
    """A name is looked up at once; what has a colon is made when an engine is."""
    try:
        if ":" not in text:
            resolve(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"{error}, and your own: mine.py:MyPolicy") from error
    return text


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine options")
    for field in _fields(EngineConfig, ENGINE_HELP):
        _add(group, field, ENGINE_HELP[field.name])


def add_sampling_flags(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    group = parser.add_argument_group("sampling options (defaults: the model's own)")
    for field in _fields(SamplingParams, SAMPLING_HELP):
        if field.name not in without:
            _add(group, field, SAMPLING_HELP[field.name])
    group.add_argument("--sampling-seed", type=int, help="makes sampling reproducible")


def _fields(kind: type, named: dict[str, str]) -> list[dataclasses.Field]:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return [fields[name] for name in named]


def _add(group: Any, field: dataclasses.Field, text: str) -> None:
    """A flag that stays out of the namespace unless given, so that defaults live in one place."""
    flag, shared = _flag(field.name), {"default": argparse.SUPPRESS}
    aliases = [_flag(alias) for alias, name in ALIASES.items() if name == field.name]
    if field.type is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text, **shared)
        return
    kind = next(kind for name, kind in KINDS.items() if name in str(field.type))
    kind = policy_text if field.name == "policy" else kind
    default = "" if field.default is None else f" (default {field.default})"
    group.add_argument(
        flag,
        *aliases,
        type=kind,
        choices=CHOICES.get(field.name),
        help=text + (default if field.name in ENGINE_HELP else ""),
        **shared,
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def engine_options(args: argparse.Namespace) -> dict[str, Any]:
    return with_policy({name: getattr(args, name) for name in ENGINE_HELP if hasattr(args, name)})


def with_policy(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the policy made, if it is more than a name.  Raises `ConfigError`."""
    if ":" not in options.get("policy", ""):
        return options
    from jpaged.simulator.makers import policy_of  # no parser should wait for it

    return options | {"policy": policy_of(options["policy"])}


def sampling_options(args: argparse.Namespace) -> dict[str, Any]:
    options = {name: getattr(args, name) for name in SAMPLING_HELP if hasattr(args, name)}
    if args.sampling_seed is not None:
        options["seed"] = args.sampling_seed
    return options
