"""A folder is read tensor by tensor, or refused for a reason one can act on."""

import json
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from checkpoints import INDEX, save_sharded, save_single, tensors

from converters import Checkpoint, CheckpointMismatch


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointMismatch) as caught:
        dict(Checkpoint(folder).tensors())
    return str(caught.value)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [save_single, save_sharded])
def test_every_tensor_is_streamed_once(save, tmp_path: Path):
    checkpoint = Checkpoint(save(tmp_path, tensors()))

    found = list(checkpoint.tensors())

    assert sorted(name for name, _ in found) == sorted(tensors())
    for name, tensor in found:
        np.testing.assert_array_equal(tensor, tensors()[name])


def test_bytes_are_those_of_all_shards(tmp_path: Path):
    checkpoint = Checkpoint(save_sharded(tmp_path, tensors(), num_shards=3))

    assert len(checkpoint.files) == 3
    assert checkpoint.num_bytes == sum(each.stat().st_size for each in tmp_path.glob("*.safe*ors"))


def test_an_index_says_which_files_count(tmp_path: Path):
    save_sharded(tmp_path, tensors())
    save_single(tmp_path, {"stale": np.zeros(1, np.float32)})

    assert "stale" not in dict(Checkpoint(tmp_path).tensors())


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_a_tensor_keeps_its_dtype(dtype, tmp_path: Path):
    values = np.array([1.5, -2.0], dtype)

    [(_, found)] = Checkpoint(save_single(tmp_path, {"x": values})).tensors()

    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_a_missing_shard_is_named(tmp_path: Path):
    save_sharded(tmp_path, tensors())
    (tmp_path / "model-00001-of-00002.safetensors").unlink()

    message = refusal(tmp_path)

    assert "1 of 2 shards are missing" in message
    assert "model-00001-of-00002.safetensors" in message


@pytest.mark.parametrize("is_absolute", [False, True], ids=["relative", "absolute"])
def test_an_index_that_points_outside_its_folder_is_refused(is_absolute: bool, tmp_path: Path):
    outside = save_single(tmp_path, tensors()) / "model.safetensors"
    folder = tmp_path / "model"
    folder.mkdir()
    name = str(outside) if is_absolute else "../model.safetensors"
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": name}}))

    assert f"points outside its folder: ['{name}']" in refusal(folder)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"weight_map": null}', '{"weight_map": ["a"]}', '{"weight_map": {"a": []}}'],
)
def test_an_index_without_a_weight_map_is_refused(text: str, tmp_path: Path):
    save_single(tmp_path, tensors())
    (tmp_path / INDEX).write_text(text)

    assert f"{INDEX} is no index with a weight_map" in refusal(tmp_path)


def test_an_index_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / INDEX).write_bytes(b"\xff\xfe\x00")

    assert f"{INDEX} is no index" in refusal(tmp_path)


def test_an_index_that_names_no_shard_is_refused(tmp_path: Path):
    (tmp_path / INDEX).write_text('{"weight_map": {}}')

    assert "no shard" in refusal(tmp_path)


@pytest.mark.parametrize("num_bytes", [0, 4, 100, -1])
def test_a_file_that_was_cut_short_is_named(num_bytes: int, tmp_path: Path):
    path = save_single(tmp_path, tensors()) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:num_bytes])

    message = refusal(tmp_path)

    assert "model.safetensors is damaged or cut short" in message
    assert "download it again" in message


@pytest.mark.parametrize(
    "header", [b"\xff" * 8, (2**40).to_bytes(8, "little"), b"\x02" + b"\0" * 7]
)
def test_a_file_whose_header_lies_is_named(header: bytes, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(header + b"[]" + b"\0" * 32)

    assert "model.safetensors is damaged" in refusal(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path):
    assert refusal(tmp_path) == f"{tmp_path} holds no .safetensors file"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickled_weights_are_refused_unread(name: str, tmp_path: Path):
    sprung = tmp_path / "sprung"
    (tmp_path / name).write_bytes(pickle.dumps(Trap(sprung)))

    message = refusal(tmp_path)

    assert not sprung.exists()
    assert name in message and "save_pretrained" in message
    with (tmp_path / name).open("rb") as file:
        pickle.load(file).close()
    assert sprung.exists(), "the trap itself does not work"


def test_pickled_weights_beside_safetensors_are_passed_over(tmp_path: Path):
    sprung = tmp_path / "sprung"
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))

    found = dict(Checkpoint(save_single(tmp_path, tensors())).tensors())

    assert found.keys() == tensors().keys()
    assert not sprung.exists()
