"""The training step and the held-out loss: pure functions of parameters and windows."""

import math
from collections.abc import Callable

import jax
import optax
from flax import nnx
from jax import Array

WEIGHT_DECAY = 0.1


def make_optimizer() -> optax.GradientTransformation:
    """AdamW without its learning rate, which each step is given."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(b1=0.9, b2=0.95),
        optax.add_decayed_weights(
            WEIGHT_DECAY, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
    )


def learning_rate(progress: float, peak: float) -> float:
    """Warms up over the first fiftieth of the run, then falls as a cosine to a fiftieth."""
    warm = min(1.0, progress / 0.02 + 1e-3)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return peak * warm * (0.02 + 0.98 * cosine)


def make_loss(graph: nnx.GraphDef) -> Callable[[nnx.State, Array], Array]:
    """Mean cross entropy of the next token over windows `int32[B, T + 1]`."""

    def loss(params: nnx.State, windows: Array) -> Array:
        logits = nnx.merge(graph, params)(windows[:, :-1])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:])
        return each.mean()

    return loss


def make_step(loss: Callable, optimizer: optax.GradientTransformation) -> Callable:
    """One compiled update: `(params, state, windows, rate) -> (params, state, loss)`."""

    def step(params: nnx.State, state: optax.OptState, windows: Array, rate: Array):
        value, gradients = jax.value_and_grad(loss)(params, windows)
        updates, state = optimizer.update(gradients, state, params)
        updates = jax.tree.map(lambda update: -rate * update, updates)
        return optax.apply_updates(params, updates), state, value

    return jax.jit(step, donate_argnums=(0, 1))
