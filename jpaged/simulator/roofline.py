"""What a step would cost on a GPU, from datasheets: whatever takes longest, reading or computing.

weights, cache ── bytes ──► read at a share of the memory's bandwidth  ┐
tokens, pairs ─── flops ──► at a share of the peak rate                ┘ the longer of the two
layers, tokens ── bytes ──► between GPUs, under tensor parallelism        + this
"""

from dataclasses import dataclass

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import StepShape
from jpaged.simulator.model_shape import MODELS, ModelShape


@dataclass(frozen=True)
class Gpu:
    """A datasheet: dense bf16 FLOP/s, bytes/s of its memory, bytes of it, and bytes/s to another
    GPU, in one direction."""

    flops: float
    bandwidth: float
    memory: float
    link: float


# from the makers' datasheets: without sparsity, SXM parts where there are several
GPUS = {
    "A100-40GB": Gpu(312e12, 1.555e12, 40e9, 300e9),
    "A100-80GB": Gpu(312e12, 2.039e12, 80e9, 300e9),
    "L40S": Gpu(362e12, 0.864e12, 48e9, 32e9),
    "H100": Gpu(989e12, 3.35e12, 80e9, 450e9),
    "H200": Gpu(989e12, 4.8e12, 141e9, 450e9),
    "B200": Gpu(2250e12, 8.0e12, 180e9, 900e9),
}
MESSAGE = 10e-6  # seconds that a collective takes at least


@dataclass(frozen=True)
class Roofline:
    """A model on `num_gpus` of a kind, whose layers are split over them (tensor parallelism).

    compute, reading: the shares of the peaks that are reached; a well-made engine has about these.
    step: seconds on top of every step, launches and the like.  A bucket's padding is computed, but
    not read.  Williams et al., "Roofline", CACM 2009.
    """

    model: ModelShape
    gpu: Gpu
    num_gpus: int = 1
    compute: float = 0.6
    reading: float = 0.8
    step: float = 0.5e-3
    host_seconds: float = 0.2e-3

    def __post_init__(self) -> None:
        shares = {"compute": self.compute, "reading": self.reading}
        wrong = [
            f"{name} is a share of a peak, not {x}" for name, x in shares.items() if not 0 < x <= 1
        ]
        if self.num_gpus < 1:
            wrong.append(f"num_gpus must be at least 1, not {self.num_gpus}")
        if min(self.step, self.host_seconds) < 0:
            wrong.append(f"step={self.step} and host_seconds={self.host_seconds} are seconds")
        if wrong:
            raise ConfigError("; ".join(wrong))

    @classmethod
    def of(cls, model: str | ModelShape, gpu: str = "H200", **options: float) -> "Roofline":
        """Of a model (a name in MODELS, or a folder with a config.json) on a GPU in GPUS."""
        if gpu not in GPUS:
            raise ConfigError(f"no datasheet of {gpu!r}; there are {', '.join(GPUS)}")
        if isinstance(model, str):
            model = MODELS[model] if model in MODELS else ModelShape.from_config(model)
        return cls(model, GPUS[gpu], **options)  # pyright: ignore[reportArgumentType]

    def seconds(self, shape: StepShape) -> float:
        model, n = self.model, self.num_gpus
        rows = shape.bucket.num_tokens if shape.bucket else shape.num_tokens
        scored = shape.bucket.num_sequences if shape.bucket else shape.num_sequences
        products = 2 * (rows * model.layer_weights + scored * model.head_weights)
        attention = 4 * shape.num_pairs * model.num_layers * model.heads * model.head_dim
        moved = model.weight_bytes + model.token_bytes * shape.num_read
        computing = (products + attention) / (n * self.gpu.flops * self.compute)
        reading = moved / (n * self.gpu.bandwidth * self.reading)
        return self.step + max(computing, reading) + self._talking(rows)

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
