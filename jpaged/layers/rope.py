"""Rotary position embedding and its ways of reaching further than it was trained for.

Su et al., "RoFormer", 2021.  A pair of dimensions (i, i + D/2) turns by position x frequency i.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jpaged.errors import UnsupportedModel


@dataclass(frozen=True)
class Rope:
    """`frequencies`: radians per position of each of the D/2 pairs.  `amplitude`: a factor on
    the rotated vectors, which YaRN uses to sharpen attention."""

    frequencies: tuple[float, ...]
    amplitude: float = 1.0

    @classmethod
    def build(cls, head_dim: int, theta: float, scaling: dict, max_positions: int) -> "Rope":
        """`scaling` is Hugging Face's `rope_scaling` or `rope_parameters`, empty for none."""
        if head_dim % 2:
            raise UnsupportedModel(f"rope turns pairs; it cannot turn heads of {head_dim}")
        plain = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        apply = _scaling_of(scaling).apply
        frequencies, amplitude = apply(plain, theta, scaling, max_positions)
        return cls(tuple(float(f) for f in frequencies), float(amplitude))

    def __call__(
        self, x: Float[jax.Array, "T H D"], positions: Int[jax.Array, " T"]
    ) -> Float[jax.Array, "T H D"]:
        """Turns every head's vector by its token's position."""
        frequencies = jnp.asarray(self.frequencies, jnp.float32)
        angles = positions[:, None, None].astype(jnp.float32) * frequencies
        cos, sin = jnp.cos(angles) * self.amplitude, jnp.sin(angles) * self.amplitude
        # or XLA:CPU computes them anew for every head
        cos, sin = jax.lax.optimization_barrier((cos, sin))
        left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        turned = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
        return turned.astype(x.dtype)


def _default(plain, theta, scaling, max_positions):
    return plain, 1.0


def _linear(plain, theta, scaling, max_positions):
    """Position interpolation (Chen et al., 2023): every frequency is divided alike."""
    return plain / scaling["factor"], 1.0


def _llama3(plain, theta, scaling, max_positions):
    """Llama 3.1: long wavelengths are divided, short ones kept, with a ramp between."""
    factor, low, high = (scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor"))
    original = scaling.get("original_max_position_embeddings") or max_positions
    turns = original * plain / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return keep * plain + (1 - keep) * plain / factor, 1.0


def _yarn(plain, theta, scaling, max_positions):
    """YaRN (Peng et al., 2023): a ramp over the pairs, and a sharper softmax."""
    factor = float(scaling["factor"])
    original = scaling.get("original_max_position_embeddings") or max_positions
    num_pairs = len(plain)

    def pair_of(turns: float) -> float:
        """The pair that makes this many turns over the original length."""
        return num_pairs * math.log(original / (turns * 2 * math.pi)) / math.log(theta)

    fast, slow = scaling.get("beta_fast") or 32, scaling.get("beta_slow") or 1
    first, last = pair_of(float(fast)), pair_of(float(slow))
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * num_pairs - 1)
    ramp = np.clip((np.arange(num_pairs) - first) / (last - first or 0.001), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp), _yarn_amplitude(factor, scaling)


def _yarn_amplitude(factor: float, scaling: dict) -> float:
    if scaling.get("attention_factor") is not None:
        return scaling["attention_factor"]

    def grow(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return grow(float(scaling["mscale"])) / grow(float(scaling["mscale_all_dim"]))
    return grow(1.0)


class Scaling(NamedTuple):
    """A way to scale, and the keys it reads."""

    apply: Callable[..., tuple[np.ndarray, float]]
    needs: frozenset[str] = frozenset()
    may_have: frozenset[str] = frozenset()


_ORIGINAL = "original_max_position_embeddings"
_OF_ALL = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
SCALINGS = {
    "default": Scaling(_default),
    "linear": Scaling(_linear, frozenset({"factor"})),
    # NTK-by-length changes only beyond the trained length, which `max_model_len` forbids
    "dynamic": Scaling(_default, frozenset({"factor"}), frozenset({_ORIGINAL})),
    "llama3": Scaling(
        _llama3,
        frozenset({"factor", "low_freq_factor", "high_freq_factor"}),
        frozenset({_ORIGINAL}),
    ),
    "yarn": Scaling(
        _yarn,
        frozenset({"factor"}),
        frozenset({_ORIGINAL, "attention_factor", "beta_fast", "beta_slow"})
        | {"mscale", "mscale_all_dim", "truncate", "finetuned"},
    ),
}


def _scaling_of(values: dict) -> Scaling:
    """Refuses by name what we would not turn as transformers does."""
    kind = values.get("rope_type", values.get("type", "default"))
    if kind not in SCALINGS:
        raise UnsupportedModel(
            f"rope scaling {kind!r} is not supported; there are {', '.join(SCALINGS)}"
        )
    given = {key for key, value in values.items() if value is not None}
    scaling = SCALINGS[kind]
    missing, unknown = scaling.needs - given, given - scaling.needs - scaling.may_have - _OF_ALL
    if values.get("partial_rotary_factor", 1.0) != 1.0:
        unknown.add("partial_rotary_factor")
    if missing:
        raise UnsupportedModel(f"rope scaling {kind!r} lacks {', '.join(sorted(missing))}")
    if unknown:
        raise UnsupportedModel(
            f"rope scaling {kind!r} has keys that we do not understand: "
            f"{', '.join(sorted(unknown))}"
        )
    return scaling
