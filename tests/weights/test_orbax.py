"""Converted weights come back from disk as they went, or the folder says what is wrong."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from converters import CheckpointMismatch
from converters.convert import flatten
from jpaged.models.loading import load_params, read_folder
from jpaged.weights.orbax import SUBFOLDER, has_saved, restore, save

pytest.importorskip("torch")

from tiny import save_tiny  # noqa: E402
from transformers import LlamaConfig  # noqa: E402

from jpaged import LLM, SamplingParams  # noqa: E402


def tree(dtype: str = "float32", width: int = 3) -> dict:
    values = jnp.arange(2 * width, dtype=dtype).reshape(2, width)
    return {"blocks": {str(i): {"weight": values + i} for i in range(11)}, "norm": values[0]}


def shapes(values: dict) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), values)


def assert_equal(found: dict, expected: dict) -> None:
    one, other = flatten(found), flatten(expected)
    assert one.keys() == other.keys()
    for name, value in other.items():
        assert one[name].dtype == value.dtype
        np.testing.assert_array_equal(one[name], value)


def tiny_llama(folder: Path) -> Path:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return save_tiny(folder, config)


def greedy(folder: Path) -> list[int]:
    llm = LLM(
        str(folder),
        skip_tokenizer_init=True,
        num_pages=8,
        max_num_seqs=2,
        max_num_batched_tokens=16,
        warmup="none",
        use_tqdm_on_load=False,
    )
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    [output] = llm.generate({"prompt_token_ids": [3, 1, 4, 1, 5]}, params, use_tqdm=False)
    return list(output.outputs[0].token_ids)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_was_saved_is_restored(dtype: str, tmp_path: Path):
    values = tree(dtype)
    assert not has_saved(tmp_path)

    save(tmp_path, values)

    assert has_saved(tmp_path)
    assert_equal(restore(tmp_path, shapes(values)), values)


def test_restored_weights_take_the_asked_dtype(tmp_path: Path):
    save(tmp_path, tree("float32"))

    found = restore(tmp_path, shapes(tree("bfloat16")))

    assert_equal(found, tree("bfloat16"))


def test_saving_again_replaces_what_was_there(tmp_path: Path):
    save(tmp_path, tree(width=5))

    save(tmp_path, tree(width=3))

    assert_equal(restore(tmp_path, shapes(tree(width=3))), tree(width=3))


def test_another_model_than_the_configs_is_reported_by_name(tmp_path: Path):
    saved, wanted = tree(), tree()
    saved["extra"] = jnp.zeros(2)
    wanted["blocks"]["10"]["weight"] = jnp.zeros((4, 4))
    wanted["head"] = jnp.zeros(7)
    save(tmp_path, saved)

    with pytest.raises(CheckpointMismatch) as caught:
        restore(tmp_path, shapes(wanted))

    message = str(caught.value)
    assert "3 parameters differ" in message
    assert "blocks.10.weight: saved (2, 3), expected (4, 4)" in message
    assert "head: saved None, expected (7,)" in message
    assert "extra: saved (2,), expected None" in message


def test_a_save_that_was_cut_short_is_reported(tmp_path: Path):
    save(tmp_path, tree())
    for each in (tmp_path / SUBFOLDER).iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()

    with pytest.raises(CheckpointMismatch, match="orbax"):
        restore(tmp_path, shapes(tree()))


def test_an_engine_runs_on_config_and_saved_weights_alone(tmp_path: Path):
    original = tiny_llama(tmp_path / "original")
    converted = tmp_path / "converted"
    converted.mkdir()
    shutil.copy(original / "config.json", converted)
    save(converted, load_params(original, read_folder(original)))

    assert not list(converted.glob("*.safetensors"))
    assert greedy(converted) == greedy(original)
