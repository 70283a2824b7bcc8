"""The models, by the name Hugging Face gives their architecture."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from converters.families.gpt2 import GPT2 as GPT2_RULES
from converters.families.llama import LLAMA as LLAMA_RULES
from converters.families.opt import OPT as OPT_RULES
from converters.rules import Table
from jpaged.errors import UnsupportedModel
from jpaged.models.base import Model
from jpaged.models.gpt2 import GPT2, GPT2Config
from jpaged.models.hf_config import HFConfig
from jpaged.models.llama import Llama, LlamaConfig
from jpaged.models.opt import OPT, OPTConfig

Config = LlamaConfig | GPT2Config | OPTConfig


class Family(NamedTuple):
    """A model's configuration, its module, and the rules that read its checkpoints."""

    read_config: Callable[[HFConfig], Config]
    build: Callable[..., Model]  # of such a configuration
    rules: Table


_LLAMA = Family(LlamaConfig.from_hf, Llama, LLAMA_RULES)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gpt2": Family(GPT2Config.from_hf, GPT2, GPT2_RULES),
    "opt": Family(OPTConfig.from_hf, OPT, OPT_RULES),
}


def family_of(hf: HFConfig) -> Family:
    """The family of a `config.json`.  Raises `UnsupportedModel` with the supported ones."""
    family = FAMILIES.get(hf.model_type)
    if family is None:
        near = difflib.get_close_matches(hf.model_type, FAMILIES, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UnsupportedModel(
            f"model type {hf.model_type!r}{hint} is not supported; "
            f"supported are {', '.join(sorted(FAMILIES))}"
        )
    return family


def read_config(hf: HFConfig) -> Config:
    """The model's configuration.  Raises `UnsupportedModel` for any setting not understood."""
    config = family_of(hf).read_config(hf)
    hf.refuse_unread()
    return config
