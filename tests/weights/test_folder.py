"""A model is found in a folder or in the hub's cache, or the reason is said at once."""

import fnmatch
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jpaged.errors import UnsupportedModel
from jpaged.weights import folder as folders
from jpaged.weights.folder import find_folder, read_json

REVISIONS = {"main": "a" * 40, "v1": "b" * 40}
FIND = (
    "import sys; from jpaged.weights.folder import find_folder; print(find_folder(*sys.argv[1:]))"
)


def lay_out_cache(cache: Path) -> dict[str, Path]:
    """The hub's cache of org/tiny with two revisions, files being links to blobs as there."""
    repo = cache / "models--org--tiny"
    for part in ("refs", "blobs"):
        (repo / part).mkdir(parents=True)
    for name, revision in REVISIONS.items():
        (repo / "refs" / name).write_text(revision)
        (repo / "blobs" / name).write_text("{}")
        (repo / "snapshots" / revision).mkdir(parents=True)
        (repo / "snapshots" / revision / "config.json").symlink_to(repo / "blobs" / name)
    return {name: repo / "snapshots" / revision for name, revision in REVISIONS.items()}


def find_elsewhere(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In another process: the hub's client reads its variables once, when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**clean, "HF_HUB_OFFLINE": "1", **variables}
    command = [sys.executable, "-c", FIND, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_folder_is_taken_as_it_is(tmp_path: Path):
    assert find_folder(str(tmp_path)) == tmp_path


def test_a_relative_folder_is_found_before_the_hub(tmp_path: Path, monkeypatch):
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert find_folder("org/tiny") == Path("org/tiny")


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "../nowhere", "~/nowhere/model"])
def test_a_path_that_is_no_folder_is_not_looked_for_in_the_hub(name: str, monkeypatch):
    def no_hub(*args, **kwargs):
        raise AssertionError("asked the hub")

    monkeypatch.setattr(folders, "snapshot_download", no_hub)

    with pytest.raises(UnsupportedModel, match=f"{name} is no folder"):
        find_folder(name)


@pytest.mark.parametrize("name", ["org/absent", "absent", "too/many/parts", "no good name", "a..b"])
def test_a_name_that_the_hub_cannot_give_is_refused_promptly(name: str):
    start = time.perf_counter()

    with pytest.raises(UnsupportedModel, match=repr(name)):
        find_folder(name)

    assert time.perf_counter() - start < 5  # it is offline: nothing to wait for


@pytest.mark.parametrize("text", ["", "first line\nsecond line"])
def test_the_hubs_reason_is_told_in_one_line(text: str, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(text)

    monkeypatch.setattr(folders, "snapshot_download", fail)

    with pytest.raises(UnsupportedModel) as caught:
        find_folder("org/tiny")

    assert "OSError" in str(caught.value)
    assert "first line" in str(caught.value) or not text
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_a_name_is_found_in_the_hubs_cache_without_a_network(variable: str, tmp_path: Path):
    is_home = variable == "HF_HOME"
    snapshots = lay_out_cache(tmp_path / "hub" if is_home else tmp_path)

    default = find_elsewhere("org/tiny", **{variable: str(tmp_path)})
    chosen = find_elsewhere("org/tiny", "v1", **{variable: str(tmp_path)})

    assert Path(default.stdout.strip()) == snapshots["main"], default.stderr
    assert Path(chosen.stdout.strip()) == snapshots["v1"], chosen.stderr


def test_a_revision_that_is_not_in_the_cache_is_refused(tmp_path: Path):
    lay_out_cache(tmp_path)

    result = find_elsewhere("org/tiny", "v2", HF_HUB_CACHE=str(tmp_path))

    assert result.returncode != 0
    assert "UnsupportedModel: 'org/tiny'" in result.stderr


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "more/words.txt"])
def test_a_text_that_lies_elsewhere_is_refused(name: str, tmp_path: Path):
    (tmp_path / "secret").write_text("{}")
    folder = tmp_path / "model"
    (folder / "more").mkdir(parents=True)
    (folder / name).symlink_to(tmp_path / "secret")

    with pytest.raises(UnsupportedModel, match=f"{name} is a link that leads out of its folder"):
        find_folder(str(folder))


def test_links_within_a_folder_and_to_weights_are_followed(tmp_path: Path):
    (tmp_path / "weights").write_bytes(b"")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "params.json").symlink_to("config.json")
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)

    assert find_folder(str(folder)) == folder
    assert find_folder(str(linked)) == linked


def test_the_hubs_cache_is_made_of_links_to_its_own(tmp_path: Path):
    snapshot = lay_out_cache(tmp_path)["main"]
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "shared").write_text("{}")
    (snapshot / "params.json").symlink_to(tmp_path / "blobs" / "shared")

    assert find_folder(str(snapshot)) == snapshot
    (snapshot / "more.json").symlink_to("/etc/hostname")
    with pytest.raises(UnsupportedModel, match=r"more\.json"):
        find_folder(str(snapshot))


def test_weights_are_not_asked_for_where_nobody_needs_them(monkeypatch, tmp_path: Path):
    asked = []

    def give(*args, allow_patterns: list[str], **kwargs) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(folders, "snapshot_download", give)

    find_folder("org/tiny")
    find_folder("org/tiny", with_weights=False)

    fetches = [any(fnmatch.fnmatch("model.safetensors", each) for each in one) for one in asked]
    assert fetches == [True, False]


def test_pickles_are_not_even_asked_for():
    wanted = ["model.safetensors", "config.json", "tokenizer.model", "chat_template.jinja"]
    unwanted = ["pytorch_model.bin", "model.pt", "x.pth", "x.ckpt", "x.pkl", "modeling_x.py"]

    def is_wanted(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in folders.WANTED)

    assert all(map(is_wanted, wanted))
    assert not any(map(is_wanted, unwanted))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_file_that_is_no_json_object_is_refused_by_name(content: bytes, tmp_path: Path):
    (tmp_path / "generation_config.json").write_bytes(content)

    with pytest.raises(UnsupportedModel, match=r"generation_config\.json"):
        read_json(tmp_path, "generation_config.json")


def test_an_absent_file_is_empty(tmp_path: Path):
    assert read_json(tmp_path, "generation_config.json") == {}
