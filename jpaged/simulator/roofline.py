"""What a step would cost on a GPU, from datasheets: whatever takes longest, reading or computing.

weights, cache ── bytes ──► read at a share of the memory's bandwidth  ┐
tokens, pairs ─── flops ──► at a share of the peak rate                ┘ the longer of the two
layers, tokens ── bytes ──► between GPUs, under tensor parallelism        + this
pages swapped ─── bytes ──► to the host or back; copied: read and written + this, before the step
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import StepShape
from jpaged.simulator.model_shape import MODELS, ModelShape


@dataclass(frozen=True)
class Gpu:
    """A datasheet: dense bf16 FLOP/s, bytes/s of its memory, bytes of it, and bytes/s to another
    GPU and to the host, in one direction."""

    flops: float
    bandwidth: float
    memory: float
    link: float
    host: float = 25e9


# 16 lanes carry 31.5 and 63 GB/s (16 and 32 GT/s a lane, 128 of 130 bits); from pinned memory
# NVIDIA's nvbandwidth has been seen to report 24.8 of the one and 55.6 of the other
PCIE_4, PCIE_5 = 25e9, 55e9
# from the makers' datasheets: without sparsity, SXM parts where there are several
GPUS = {
    "A100-40GB": Gpu(312e12, 1.555e12, 40e9, 300e9, PCIE_4),
    "A100-80GB": Gpu(312e12, 2.039e12, 80e9, 300e9, PCIE_4),
    "L40S": Gpu(362e12, 0.864e12, 48e9, 32e9, PCIE_4),
    "H100": Gpu(989e12, 3.35e12, 80e9, 450e9, PCIE_5),
    "H200": Gpu(989e12, 4.8e12, 141e9, 450e9, PCIE_5),
    "B200": Gpu(2250e12, 8.0e12, 180e9, 900e9, PCIE_5),
}
MESSAGE = 10e-6  # seconds that a collective takes at least


Rule = tuple[str, Callable[[float], bool]]  # what a number is, and whether it is
WHOLE: Rule = ("a whole number of at least 1", lambda x: isinstance(x, int) and x >= 1)
SHARE: Rule = ("a share of a peak, above 0 and at most 1", lambda x: 0 < x <= 1)
SECONDS: Rule = ("seconds, 0 or more", lambda x: x >= 0)
RULES = {
    "num_gpus": WHOLE,
    "compute": SHARE,
    "reading": SHARE,
    "step": SECONDS,
    "host_seconds": SECONDS,
    "page_size": WHOLE,
}
OPTIONS = tuple(RULES)


@dataclass(frozen=True)
class Roofline:
    """A model on `num_gpus` of a kind, whose layers are split over them (tensor parallelism).

    compute, reading: the shares of the peaks that are reached; a well-made engine has about these.
    step: seconds on top of every step, launches and the like.  page_size: tokens of the pages that
    are moved.  A bucket's padding is computed, but not read.  Williams et al., "Roofline", CACM
    2009.
    """

    model: ModelShape
    gpu: Gpu
    num_gpus: int = 1
    compute: float = 0.6
    reading: float = 0.8
    step: float = 0.5e-3
    host_seconds: float = 0.2e-3
    page_size: int = 16

    def __post_init__(self) -> None:
        wrong = []
        for name in OPTIONS:
            value, (what, is_fine) = getattr(self, name), RULES[name]
            if not (isinstance(value, Real) and math.isfinite(value) and is_fine(value)):
                wrong.append(f"{name} is {what}, not {value!r}")
        if wrong:
            raise ConfigError("; ".join(wrong))

    @classmethod
    def of(cls, model: str | Path | ModelShape, gpu: str = "H200", **options: float) -> "Roofline":
        """Of a model (a name in MODELS, or a folder with a config.json) on a GPU in GPUS.

        options: the other fields.
        """
        if gpu not in GPUS:
            raise ConfigError(f"no datasheet of {gpu!r}; there are {', '.join(GPUS)}")
        unknown = [name for name in options if name not in OPTIONS]
        if unknown:
            raise ConfigError(
                f"a roofline has no option {', '.join(unknown)}; there are {', '.join(OPTIONS)}"
            )
        if not isinstance(model, ModelShape):
            model = MODELS.get(str(model)) or ModelShape.from_config(str(model))
        return cls(model, GPUS[gpu], **options)  # pyright: ignore[reportArgumentType]

    @property
    def engine(self) -> dict[str, int]:
        """The options that an engine has with these costs, where nothing else is said."""
        return {"page_size": self.page_size}

    def check(self, engine: Mapping[str, object]) -> None:
        """Raises `ConfigError` for an engine whose pages are of another size."""
        if engine.get("page_size", self.page_size) != self.page_size:
            raise ConfigError(
                f"page_size is {engine['page_size']}, the roofline moves pages of "
                f"{self.page_size} tokens; say it to the roofline instead, with page_size="
            )

    def seconds(self, shape: StepShape) -> float:
        model, n = self.model, self.num_gpus
        rows = shape.bucket.num_tokens if shape.bucket else shape.num_tokens
        scored = shape.bucket.num_sequences if shape.bucket else shape.num_sequences
        products = 2 * (rows * model.layer_weights + scored * model.head_weights)
        attention = 4 * shape.num_pairs * model.num_layers * model.heads * model.head_dim
        moved = model.weight_bytes + model.token_bytes * shape.num_read
        computing = (products + attention) / (n * self.gpu.flops * self.compute)
        reading = moved / (n * self.gpu.bandwidth * self.reading)
        return self.step + max(computing, reading) + self._talking(rows) + self._moving(shape)

    def _moving(self, shape: StepShape) -> float:
        """Each GPU moves its heads' part of a page: over its own link to the host, or within its
        memory, where what is copied is read and written."""
        if not shape.num_moved:
            return 0.0
        part = self.page_size * self.model.token_bytes / self.num_gpus
        num_copied = shape.num_moved - shape.num_swapped
        copying = 2 * num_copied * part / (self.gpu.bandwidth * self.reading)
        return copying + shape.num_swapped * part / self.gpu.host

    def _talking(self, rows: int) -> float:
        """Two all-reduces a layer: each GPU sends and receives nearly all numbers twice."""
        if self.num_gpus == 1:
            return 0.0
        sent = 2 * (1 - 1 / self.num_gpus) * rows * self.model.width * self.model.num_bytes
        return 2 * self.model.num_layers * (MESSAGE + sent / self.gpu.link)

    @property
    def token_seconds(self) -> float:
        """To copy a token's keys and values to another replica, each GPU to its like."""
        return self.model.token_bytes / (self.num_gpus * self.gpu.link)

    def num_pages(self, page_size: int = 16, share: float = 0.9) -> int:
        """Pages that fit beside the weights, of this share of the memory.  Raises `ConfigError` if
        the weights alone do not."""
        room = share * self.gpu.memory * self.num_gpus - self.model.weight_bytes
        pages = int(room // (self.model.token_bytes * page_size))
        if pages < 1:
            raise ConfigError(
                f"{self.model.weight_bytes / 1e9:.0f} GB of weights do not fit on {self.num_gpus} "
                f"GPUs of {self.gpu.memory / 1e9:.0f} GB; raise num_gpus"
            )
        return pages
