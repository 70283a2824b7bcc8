"""Who owns the parameters while they change, and who says how much of the run is done."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from demo_training.data import PackedTokens
from demo_training.induction import plant_induction
from demo_training.model import DemoConfig, DemoModel
from demo_training.steps import learning_rate, make_loss, make_optimizer, make_step

TOKENS_PER_STEP = 1024


class Progress:
    """How much of the run is done, from 0 to 1, by steps or by the clock."""

    def __init__(self, minutes: float, steps: int | None):
        self.minutes, self.steps = minutes, steps
        self.started = time.monotonic()

    def share(self, step: int) -> float:
        """The share that is done when `step` steps are."""
        if self.steps is not None:
            return step / self.steps
        return (time.monotonic() - self.started) / (60 * self.minutes)


class Trainer:
    """Owns parameters and optimizer state while they change."""

    def __init__(self, config: DemoConfig, dtype: str, peak: float):
        model = DemoModel(config, jnp.dtype(dtype), nnx.Rngs(0))
        plant_induction(model)
        self.graph, self.params = nnx.split(model)
        self.peak = peak
        optimizer = make_optimizer()
        self.optimizer_state = optimizer.init(self.params)
        loss = make_loss(self.graph)
        self.loss, self.step = jax.jit(loss), make_step(loss, optimizer)

    def train_on(self, windows: np.ndarray, progress: float) -> float:
        """Updates the parameters once, and returns the loss before."""
        rate = jnp.float32(learning_rate(progress, self.peak))
        self.params, self.optimizer_state, value = self.step(
            self.params, self.optimizer_state, windows, rate
        )
        return float(value)

    def evaluate(self, packed: PackedTokens, num_batches: int, length: int) -> float:
        """The loss on windows drawn by a fixed seed."""
        rng, count = np.random.default_rng(1), TOKENS_PER_STEP // length
        batches = [packed.windows(rng, count, length) for _ in range(num_batches)]
        return float(np.mean([self.loss(self.params, batch) for batch in batches]))
