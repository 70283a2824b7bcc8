"""The models on this machine: list, show, pull, rm."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub import REVISION, hub, lay_out

from jpaged.cli import main
from jpaged.server import registry


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, and no servers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")  # the terminal of who runs the tests does not matter
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def run_main(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def elsewhere(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In another process: the hub's client reads its variables once, when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [sys.executable, "-m", "jpaged", *argv]
    return subprocess.run(
        command, env={**clean, **variables}, capture_output=True, text=True, timeout=60
    )


def with_config(snapshot: Path, **values: object) -> None:
    path = snapshot / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_list_says_what_there_is_and_whether_it_can_be_served(capsys, cache):
    lay_out(cache, "org/fox")
    with_config(lay_out(cache, "org/bert"), model_type="bert")
    (lay_out(cache, "org/half") / "model.safetensors").unlink()

    code, out, _ = run_main(capsys, "list")

    rows = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert code == 0
    assert list(rows) == ["org/bert", "org/fox", "org/half", "demo"]
    assert "LlamaForCausalLM" in rows["org/fox"] and rows["org/fox"].endswith("yes")
    assert "7.4 MiB" in rows["org/fox"]
    assert rows["org/bert"].endswith("no: model type 'bert' is not supported")
    assert rows["org/half"].endswith("no: holds no .safetensors file")
    assert rows["demo"].endswith("yes")


def test_list_knows_the_demo_where_nothing_was_ever_downloaded(capsys, cache):
    cache.rmdir()

    code, out, _ = run_main(capsys, "list")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "demo"]


def test_show_says_what_a_checkpoint_is(capsys, cache):
    snapshot = lay_out(cache, "org/fox")
    (snapshot / "generation_config.json").unlink()
    (snapshot / "generation_config.json").write_text('{"top_k": 7}')

    code, out, _ = run_main(capsys, "show", "org/fox")

    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if len(line.split()) > 1)
    assert code == 0
    assert rows["folder"] == str(snapshot)
    assert rows["model"] == "LlamaForCausalLM, bfloat16"
    assert rows["positions"].startswith("1,024")
    assert rows["chat"] == "template     yes"
    assert rows["sampling"] == "top_k=7"


def test_show_of_a_model_on_the_hub_leaves_its_weights_there(tmp_path):
    with hub("org/fox") as server:
        shown = elsewhere("show", "org/fox", HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)

    assert shown.returncode == 0, shown.stderr
    assert "LlamaForCausalLM, bfloat16" in shown.stdout
    assert "config.json" in server.asked
    assert not any(name.endswith(".safetensors") for name in server.asked)


def test_show_is_another_name_of_info(capsys):
    assert run_main(capsys, "show", "demo") == run_main(capsys, "info", "demo")


def test_rm_takes_a_model_out_of_the_cache_and_no_copy_of_it(capsys, cache):
    lay_out(cache, "org/fox")
    lay_out(cache, "org/owl")

    code, out, _ = run_main(capsys, "rm", "org/fox", "--yes")

    assert code == 0
    assert out == "removed org/fox: 7.4 MiB\n"
    assert [path.name for path in cache.glob("models--*")] == ["models--org--owl"]


@pytest.mark.parametrize(("answer", "is_left"), [("n", True), ("", True), ("y", False)])
def test_rm_asks_whoever_sits_at_a_terminal(capsys, cache, monkeypatch, answer, is_left):
    lay_out(cache, "org/fox")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    code, out, _ = run_main(capsys, "rm", "org/fox")

    assert "remove org/fox" in out
    assert code == int(is_left)
    assert bool(list(cache.glob("models--*"))) == is_left


def test_rm_removes_nothing_when_nobody_can_be_asked(capsys, cache, monkeypatch):
    lay_out(cache, "org/fox")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    code, _, err = run_main(capsys, "rm", "org/fox")

    assert code == 1
    assert "say --yes" in err
    assert list(cache.glob("models--*"))


def test_rm_leaves_what_is_being_served(capsys, cache):
    snapshot = lay_out(cache, "org/fox")
    registry.enter("127.0.0.1", 8000, {"fox": str(snapshot)})

    code, _, err = run_main(capsys, "rm", "org/fox", "--yes")

    assert code == 1
    assert "being served at http://127.0.0.1:8000" in err
    assert snapshot.is_dir()


def test_rm_of_an_unknown_model_removes_none_of_the_others(capsys, cache):
    lay_out(cache, "org/fox")

    code, _, err = run_main(capsys, "rm", "org/fox", "org/wolf", "--yes")

    assert code == 1
    assert "'org/wolf' is not in the Hugging Face cache; there is org/fox" in err
    assert list(cache.glob("models--*"))


def test_pull_brings_what_is_needed_and_only_that(tmp_path):
    home = tmp_path / "home"
    with hub("org/fox") as server:
        first = elsewhere("pull", "org/fox", HF_HOME=str(home), HF_ENDPOINT=server.url)
        asked = set(server.asked)
        server.asked.clear()
        second = elsewhere("pull", "org/fox", HF_HOME=str(home), HF_ENDPOINT=server.url)

        assert first.returncode == 0, first.stderr
        assert "5 files" in first.stdout and "7.4 MiB to download" in first.stdout
        assert "model.safetensors" in asked and "README.md" not in asked
        assert (home / "hub/models--org--fox/snapshots" / REVISION / "config.json").is_file()
        assert "0 B to download" in second.stdout
        assert server.asked == []


def test_there_is_nothing_to_pull_of_what_is_bundled(capsys):
    code, out, _ = run_main(capsys, "pull", "demo")

    assert (code, out) == (0, "demo comes with jpaged; there is nothing to pull\n")


def test_pull_refuses_what_could_not_be_served_before_it_downloads_the_weights(cache, tmp_path):
    snapshot = lay_out(cache, "org/bert")
    with_config(snapshot, model_type="bert")
    with hub("org/bert", snapshot) as server:
        done = elsewhere("pull", "org/bert", HF_HOME=str(tmp_path / "home"), HF_ENDPOINT=server.url)

        assert done.returncode == 1
        assert "'bert' is not supported" in done.stderr and "--force" in done.stderr
        assert server.asked == ["config.json"]


def test_pull_without_a_network_says_so_in_one_line(tmp_path):
    done = elsewhere("pull", "org/fox", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")

    assert done.returncode == 1
    assert "the Hugging Face hub was not reached" in done.stderr and done.stderr.count("\n") == 1


def test_pull_of_an_unknown_model_is_one_line(tmp_path):
    with hub("org/fox") as server:
        done = elsewhere("pull", "org/wolf", HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)

    assert done.returncode == 1
    assert "org/wolf was not pulled" in done.stderr and done.stderr.count("\n") == 1
