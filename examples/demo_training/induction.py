"""Starting weights with which attention can already look things up.

What a story or a chat needs most is to find an earlier word again: after `Your name is`, the
word that followed `name is` before. A network that starts at random needs more tokens to
discover how than two CPU cores read in an hour (after 2 million, it recalled not one name). So
the first two layers start with a rough version of the known circuit, an induction head, and
training refines it:

    layer 0, head 0    looks one token back (head 1: two), and notes what it sees there
    layer 1, head 0    looks for tokens whose notes are the last two tokens, and repeats them

All other heads start as usual, except that they too repeat what they attend to.
"""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from demo_training.model import Attention, DemoModel, rotate

CONSTANT = 1.0  # the value of every token's first feature, by which heads can ignore content
SHARPNESS = 0.9  # of looking back
NOTE = 0.4  # how loud the note is, next to the token itself
# Of the score of a match. When nothing matches, attention must stay spread out: with twice the
# gain it falls on one token by chance, repeating it does harm, and training unlearns to repeat.
MATCH_GAIN = 1.5
QUIET = 0.2  # how loud the rest of a layer is, so as not to drown the circuit
FAST_PAIRS = 8  # rotary pairs that tell neighbours apart
SLOW_PAIRS = 16  # rotary pairs that hardly turn over a few hundred tokens


def plant_induction(model: DemoModel) -> None:
    """Overwrites a few heads of a fresh model."""
    for layer in model.layers:
        repeat_what_is_seen(layer.self_attn)
        layer.mlp.down_proj.kernel[...] *= QUIET
    tokens, notes = directions(model.layers[0].self_attn)
    make_room(model.embed_tokens.embedding, notes)
    model.lm_head.kernel[...] = model.embed_tokens.embedding[...].at[:, 0].set(0.0).T
    look_back(model.layers[0].self_attn, tokens, notes)
    match_notes(model.layers[1].self_attn, tokens, notes)


def directions(attention: Attention) -> tuple[Array, Array]:
    """Orthogonal directions of the stream for reading tokens `[E, D]` and for notes `[E, 2D]`."""
    width, size = attention.config.hidden_size, attention.config.head_dim
    square = np.random.default_rng(0).normal(size=(width - 1, 3 * size))
    orthogonal = np.pad(np.linalg.qr(square)[0], ((1, 0), (0, 0)))
    orthogonal = jnp.asarray(orthogonal, jnp.float32)
    return orthogonal[:, :size], orthogonal[:, size:]


def make_room(embedding: nnx.Param, notes: Array) -> None:
    """Keeps tokens out of the directions of notes, and gives them all the same first feature."""
    rows = embedding[...] - embedding[...] @ notes @ notes.T
    embedding[...] = rows.at[:, 0].set(CONSTANT)


def repeat_what_is_seen(attention: Attention) -> None:
    """Makes the output projection the transpose of the value projection."""
    config = attention.config
    groups = config.num_attention_heads // config.num_key_value_heads
    values = attention.v_proj.kernel[...].reshape(config.hidden_size, -1, config.head_dim)
    repeated = jnp.repeat(values, groups, axis=1).reshape(config.hidden_size, -1)
    attention.o_proj.kernel[...] = repeated.T / groups


def turned(vector: Array, positions: int, theta: float) -> Array:
    """A head's vector as rotary embedding turns it at a position."""
    row = jnp.broadcast_to(vector, (1, positions + 1, 1, vector.shape[0]))
    return rotate(row, theta)[0, positions, 0]


def look_back(attention: Attention, tokens: Array, notes: Array) -> None:
    """Heads 0 and 1 attend to the token one and two places before, whatever it is."""
    size, theta = attention.config.head_dim, attention.config.rope_theta
    plain = SHARPNESS * (jnp.arange(size) < FAST_PAIRS).astype(jnp.float32)
    once, twice = turned(plain, 1, theta), turned(plain, 2, theta)
    place(attention.q_proj, jnp.concatenate([once, plain]), slice(0, 2 * size))
    place(attention.k_proj, twice, slice(0, size))
    attention.v_proj.kernel[...] = attention.v_proj.kernel[...].at[:, :size].set(tokens)
    output = QUIET * attention.o_proj.kernel[...]
    attention.o_proj.kernel[...] = output.at[: 2 * size].set(NOTE * notes.T)


def place(projection: nnx.Linear, row: Array, columns: slice) -> None:
    """Lets some columns of a projection see nothing but the constant feature."""
    kernel = projection.kernel[...].at[:, columns].multiply(0.1)
    projection.kernel[...] = kernel.at[0, columns].set(row)


def match_notes(attention: Attention, tokens: Array, notes: Array) -> None:
    """Head 0 asks for the last two tokens, and keys answer with their notes of the two before."""
    size = attention.config.head_dim
    slow = MATCH_GAIN * (jnp.arange(size) % (size // 2) >= size // 2 - SLOW_PAIRS)
    is_last = jnp.arange(size) % 2 == 0
    last, before = notes[:, :size], notes[:, size:]
    q, k = attention.q_proj.kernel, attention.k_proj.kernel
    q[...] = q[...].at[:, :size].set(jnp.where(is_last, tokens, last) * slow)
    k[...] = k[...].at[:, :size].set(jnp.where(is_last, last, before) * slow)
    repeat_tokens(attention, tokens)


def repeat_tokens(attention: Attention, tokens: Array) -> None:
    """Head 0 adds the token it attends to, which makes it the likeliest next one."""
    size = attention.config.head_dim
    attention.v_proj.kernel[...] = attention.v_proj.kernel[...].at[:, :size].set(tokens)
    output = QUIET * attention.o_proj.kernel[...]
    attention.o_proj.kernel[...] = output.at[:size].set(tokens.T)
