"""A module is taken apart into a plain dict and put together again."""

import jax
import jax.numpy as jnp
import numpy as np

from converters.convert import flatten, unflatten
from jpaged.layers.linear import Linear
from jpaged.models.hf_config import HFConfig
from jpaged.models.loading import AbstractModel, read_model
from jpaged.weights.functional import abstract_model, merge, num_bytes, num_parameters

NUM_LAYERS = 12


def model(dtype: str = "float32") -> AbstractModel:
    values = {
        "model_type": "llama",
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "rms_norm_eps": 1e-5,
    }
    return read_model(HFConfig(values), dtype)


def test_more_than_ten_layers_keep_their_order():
    abstract = model()
    flat = {
        # as text, "10" comes before "2"
        name: np.full(like.shape, int(name.split(".")[1]) if "blocks" in name else -1, np.float32)
        for name, like in flatten(abstract.params).items()
    }

    module = merge(abstract.graph, unflatten(flat))

    norms = [float(block.attn_norm.weight[...][0]) for block in module.blocks]
    downs = [float(block.mlp.down.weight[...][0, 0]) for block in module.blocks]
    assert norms == downs == list(range(NUM_LAYERS))
    assert len(module.kv_spec()) == NUM_LAYERS


def test_keys_are_text_throughout():
    names = flatten(model().params)

    assert "blocks.11.attn.q.weight" in names
    assert all(isinstance(name, str) for name in names)


def test_an_abstract_model_holds_shapes_alone_in_the_asked_dtype():
    leaves = jax.tree.leaves(model("bfloat16").params)

    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("bfloat16")}


def test_a_large_model_is_described_without_being_built():
    width = 1 << 20  # 4 TB of float32, if it were

    _, params = abstract_model(lambda: Linear(width, width), jnp.dtype("float32"))

    assert num_parameters(params) == width * width
    assert num_bytes(params) == 4 * width * width
