"""A checkpoint fills a model, or one report says everything that does not fit."""

from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from checkpoints import TABLE, abstract, save_sharded, save_single, tensors

from converters import Checkpoint, CheckpointMismatch, convert
from converters.convert import MOST_NAMED, flatten, unflatten


def converted(folder: Path, like: dict) -> dict:
    return flatten(convert(Checkpoint(folder), TABLE, like))


def report(folder: Path, like: dict) -> str:
    with pytest.raises(CheckpointMismatch) as caught:
        convert(Checkpoint(folder), TABLE, like)
    return str(caught.value)


@pytest.mark.parametrize("save", [save_single, save_sharded])
def test_every_tensor_lands_in_its_parameter(save, tmp_path: Path):
    source = tensors()

    found = converted(save(tmp_path, source), abstract())

    expected = {
        "embed.weight": source["model.embed.weight"],
        "blocks.0.up.weight": source["model.h.0.up.weight"].T,
        "blocks.0.down.weight": source["model.h.0.down.weight"].T,
        "blocks.0.q": source["model.h.0.qkv"][:2],
        "blocks.0.k": source["model.h.0.qkv"][2:4],
        "blocks.0.v": source["model.h.0.qkv"][4:],
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("source", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("target", ["float32", "float16", "bfloat16"])
def test_tensors_are_cast_to_the_models_dtype(source, target: str, tmp_path: Path):
    values = {name: value.astype(source) for name, value in tensors().items()}

    found = converted(save_single(tmp_path, values), abstract(target))

    assert {each.dtype for each in found.values()} == {jnp.dtype(target)}
    # integers below 256 are exact in every one of these types
    np.testing.assert_array_equal(found["blocks.0.v"], tensors()["model.h.0.qkv"][4:])


def test_one_report_names_all_that_is_missing_extra_and_misshapen(tmp_path: Path):
    values = tensors()
    values["model.h.0.surprise"] = values.pop("model.h.0.up.weight")
    values["model.h.0.down.weight"] = np.zeros((2, 5), np.float32)
    values["model.h.1.qkv"] = np.zeros(6, np.float32)

    message = report(save_sharded(tmp_path, values), abstract())

    assert str(tmp_path) in message
    assert "1 parameters are missing: blocks.0.up.weight (2, 4)" in message
    assert "model.h.0.surprise (4, 2)" in message
    assert "model.h.1.qkv -> blocks.1.q, which this model lacks" in message
    assert "blocks.0.down.weight is (5, 2), (4, 2) expected" in message


def test_a_tensor_that_cannot_be_split_is_in_the_report(tmp_path: Path):
    values = {**tensors(), "model.h.0.qkv": np.zeros(7, np.float32)}

    message = report(save_single(tmp_path, values), abstract())

    assert "model.h.0.qkv is (7,)" in message
    assert "missing" not in message


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.bool_])
def test_tensors_that_are_no_floating_point_are_refused(dtype, tmp_path: Path):
    values = {**tensors(), "model.embed.weight": np.zeros((3, 2), dtype)}

    message = report(save_single(tmp_path, values), abstract())

    assert f"model.embed.weight is {np.dtype(dtype)}, floating point expected" in message
    assert "missing" not in message


def test_a_long_report_is_abridged(tmp_path: Path):
    extra = {f"extra.{i:02}": np.zeros(1, np.float32) for i in range(MOST_NAMED + 5)}

    message = report(save_single(tmp_path, tensors() | extra), abstract())

    assert f"{MOST_NAMED + 5} tensors are not understood" in message
    assert f"extra.{MOST_NAMED - 1:02} (1,) and 5 more" in message


def test_a_tied_head_may_be_stored_all_the_same(tmp_path: Path):
    values = tensors()
    values["lm_head.weight"] = values["model.embed.weight"].copy()

    found = converted(save_single(tmp_path, values), abstract())

    assert "head.weight" not in found


def test_a_head_that_is_not_tied_is_missed(tmp_path: Path):
    like = abstract()
    like["head"] = {"weight": like["embed"]["weight"]}

    assert "missing: head.weight (3, 2)" in report(save_single(tmp_path, tensors()), like)


def test_buffers_are_passed_over(tmp_path: Path):
    values = {**tensors(), "model.h.0.rotary_emb.inv_freq": np.ones(4, np.float32)}

    found = converted(save_single(tmp_path, values), abstract())

    assert not any("inv_freq" in name for name in found)


def test_progress_is_told_of_every_tensor(tmp_path: Path):
    heard: list[int] = []

    convert(Checkpoint(save_single(tmp_path, tensors())), TABLE, abstract(), on_tensor=heard.append)

    assert sorted(heard) == sorted(value.nbytes for value in tensors().values())


def test_flat_and_nested_names_say_the_same():
    tree = {"a": {"0": {"b": 1}, "10": {"b": 2}}, "c": 3}

    assert flatten(tree) == {"a.0.b": 1, "a.10.b": 2, "c": 3}
    assert unflatten(flatten(tree)) == tree
