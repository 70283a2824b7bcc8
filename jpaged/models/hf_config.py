"""A Hugging Face `config.json` that remembers which of its keys were read.

A model that is not understood is refused, not approximated: a key that nobody read and nobody
declared irrelevant could change what the model computes.
"""

import math
from pathlib import Path
from typing import Any

from jpaged.errors import UnsupportedModel
from jpaged.weights.folder import read_json

# keys that do not change the logits of a decoder-only model at inference
IRRELEVANT = frozenset(
    """_name_or_path architectures model_type torch_dtype dtype transformers_version
    use_cache initializer_range initializer_factor bos_token_id eos_token_id pad_token_id
    sep_token_id decoder_start_token_id output_attentions output_hidden_states return_dict
    attention_dropout hidden_dropout hidden_dropout_prob dropout activation_dropout layerdrop
    attn_pdrop embd_pdrop resid_pdrop summary_type summary_use_proj summary_activation
    summary_proj_to_labels summary_first_dropout task_specific_params pretraining_tp prefix
    id2label label2id problem_type finetuning_task chunk_size_feed_forward is_encoder_decoder
    is_decoder gradient_checkpointing init_std n_ctx unsloth_fixed unsloth_version
    _attn_implementation_autoset auto_map tokenizer_class is_llama_config transformers.js_config
    generation_config n_special predict_special_tokens vocab_type mlp_dropout max_length""".split()
)

# sizes of a model, and the largest that one may have: more would fill the memory before anything
# could be held against the weights
LARGEST = dict.fromkeys(
    """vocab_size hidden_size intermediate_size ffn_dim head_dim num_attention_heads
    num_key_value_heads max_position_embeddings word_embed_proj_dim n_embd n_inner n_head
    n_positions""".split(),
    2**24,
) | {"num_hidden_layers": 1000, "n_layer": 1000}
NUMBERS = frozenset({"rms_norm_eps", "layer_norm_epsilon", "rope_theta"})
OBJECTS = frozenset({"rope_scaling", "rope_parameters"})


class HFConfig:
    """Reads like a dict; `unread()` names what nobody asked for."""

    def __init__(self, values: dict[str, Any]):
        self.values = values
        self._read: set[str] = set()

    @classmethod
    def load(cls, folder: Path) -> "HFConfig":
        if (folder / "adapter_config.json").is_file():
            raise UnsupportedModel(
                f"{folder} is an adapter (adapter_config.json), and adapters are not there yet; "
                "merge it into its model, and name that"
            )
        if not (folder / "config.json").is_file():
            raise UnsupportedModel(f"{folder} has no config.json; is it a model folder?")
        return cls(read_json(folder, "config.json"))

    @property
    def model_type(self) -> str:
        found = self.values.get("model_type") or ""
        if not isinstance(found, str):
            raise UnsupportedModel(
                f"config.json has model_type={repr(found)[:100]}, which is no name"
            )
        return found

    def assume(self, values: dict[str, Any]) -> None:
        """Fills in what the file is silent about.  A null is no silence."""
        self.values = {**values, **self.values}

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise UnsupportedModel(f"config.json lacks {key!r}, which {self.model_type} needs")
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default where it is absent or null."""
        self._read.add(key)
        value = self.values.get(key)
        if value is None:
            return default
        _check_kind(key, value)
        return value

    def quotient(self, whole: str, parts: str) -> int:
        """The one number by the other.  Refuses a remainder."""
        if self[whole] % self[parts]:
            raise UnsupportedModel(
                f"{whole}={self[whole]} cannot be divided evenly by {parts}={self[parts]}"
            )
        return self[whole] // self[parts]

    def require(self, key: str, *allowed: Any) -> None:
        """Refuses a setting we do not implement.  `allowed[0]` is the default."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            raise UnsupportedModel(
                f"{self.model_type} with {key}={value!r} is not supported; "
                f"supported: {', '.join(map(repr, allowed))}"
            )

    def unread(self) -> list[str]:
        return sorted(set(self.values) - self._read - IRRELEVANT)

    def refuse_unread(self) -> None:
        if self.unread():
            named = ", ".join(f"{key}={self.values[key]!r}" for key in self.unread())
            raise UnsupportedModel(
                f"config.json has settings that jpaged's {self.model_type} does not understand: "
                f"{named}; remove those that do not change the model's outputs"
            )


def _check_kind(key: str, value: Any) -> None:
    """Of keys that would fail much later, and not by name."""
    most = LARGEST.get(key)
    if most is not None and not (type(value) is int and 1 <= value <= most):
        wanted = f"a whole number from 1 to {most}"
    elif key in NUMBERS and not (type(value) in (int, float) and 0 < value < math.inf):
        wanted = "a number above 0"
    elif key in OBJECTS and not isinstance(value, dict):
        wanted = "an object"
    else:
        return
    raise UnsupportedModel(f"config.json has {key}={repr(value)[:100]}; it must be {wanted}")
