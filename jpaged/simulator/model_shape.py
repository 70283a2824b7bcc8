"""The numbers of a model that its costs depend on, from its `config.json` alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jpaged.errors import ConfigError

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class ModelShape:
    """A decoder: sizes as in the papers, kv_heads for grouped queries, gated: an MLP of three
    matrices instead of two.  num_bytes: of a number, in weights and cache."""

    num_layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    vocab: int
    gated: bool = True
    num_bytes: int = 2

    @property
    def layer_weights(self) -> int:
        """Numbers in the matrices of all layers: what every token is multiplied by."""
        attention = self.width * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.num_layers * (attention + (2 + self.gated) * self.width * self.ffn_width)

    @property
    def head_weights(self) -> int:
        """Numbers in the matrix that scores the vocabulary, once a sequence."""
        return self.vocab * self.width

    @property
    def weight_bytes(self) -> int:
        """Read by every step; the embedding is looked up, not read."""
        return self.num_bytes * (self.layer_weights + self.head_weights)

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        return self.num_bytes * 2 * self.num_layers * self.kv_heads * self.head_dim

    @classmethod
    def from_config(cls, config: dict[str, Any] | str | Path) -> "ModelShape":
        """From a Hugging Face configuration, or the folder or file that holds it.  Raises
        `ConfigError`, naming what it lacks, and for experts, of which a token meets only some."""
        where, values = _read(config)
        if experts := next((name for name in EXPERTS if values.get(name)), None):
            raise ConfigError(
                f"{where} has {experts}={values[experts]}: a mixture of experts is not understood; "
                "write a cost model of your own, `seconds(shape)` is all it needs"
            )
        try:
            width, heads = (
                _first(values, "hidden_size", "n_embd"),
                _first(values, "num_attention_heads", "n_head"),
            )
            return cls(
                num_layers=_first(values, "num_hidden_layers", "n_layer"),
                width=width,
                heads=heads,
                kv_heads=values.get("num_key_value_heads") or heads,
                head_dim=values.get("head_dim") or width // heads,
                ffn_width=values.get("intermediate_size")
                or values.get("ffn_dim")
                or values.get("n_inner")
                or 4 * width,
                vocab=_first(values, "vocab_size"),
                gated=values.get("model_type") not in ("gpt2", "opt"),
                num_bytes=BYTES.get(str(values.get("dtype") or values.get("torch_dtype")), 2),
            )
        except KeyError as error:
            raise ConfigError(f"{where} has no {error.args[0]}: no decoder's config") from error


# a few that are often asked for
LLAMA_8B = ModelShape(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = ModelShape(80, 8192, 64, 8, 128, 28672, 128256)
OPT_13B = ModelShape(40, 5120, 40, 40, 128, 20480, 50272, gated=False)
MODELS = {"llama-8b": LLAMA_8B, "llama-70b": LLAMA_70B, "opt-13b": OPT_13B}


def _read(config: dict[str, Any] | str | Path) -> tuple[str, dict[str, Any]]:
    if isinstance(config, dict):
        return "the configuration", config
    path = Path(config).expanduser()
    path = path / "config.json" if path.is_dir() else path
    try:
        return str(path), json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{config!r} is no model's config.json ({error}), nor one of {', '.join(MODELS)}"
        ) from error


def _first(values: dict[str, Any], *names: str) -> int:
    found = next((values[name] for name in names if values.get(name)), None)
    if found is None:
        raise KeyError(" or ".join(names))
    return int(found)
