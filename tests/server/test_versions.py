"""Versions are loaded, labelled and unloaded while requests run, and none is lost."""

import asyncio
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Running, eventually, running

from jpaged.assets import DEMO_MODEL
from jpaged.server.errors import ApiError
from jpaged.server.roots import allowed_folder

TEXT = {"prompt": "Hi", "max_tokens": 4, "ignore_eos": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that models may be loaded from, with two in it."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        shutil.copytree(DEMO_MODEL, folder / name)
    return folder


@pytest.fixture
def loading(root: Path) -> Iterator[Running]:
    with running({"pretend": "constant:0.004"}, model_root=(str(root),)) as server:
        yield server


@pytest.fixture(scope="module")
def refusing(root: Path) -> Iterator[Running]:
    """Shared by those that change nothing."""
    with running({"pretend": "constant:0.004"}, model_root=(str(root),)) as server:
        yield server


def post(server: Running, path: str, body: dict[str, Any], status: int = 200) -> Any:
    with server.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def ask(server: Running, model: str, status: int = 200) -> Any:
    return post(server, "/v1/completions", {**TEXT, "model": model}, status)


def labels(answer: Any) -> dict[str, list[str]]:
    return {f"{each['model']}@{each['version']}": each["labels"] for each in answer["models"]}


def test_a_version_is_loaded_labelled_and_unloaded(loading: Running):
    load = {"model": "demo@v2", "path": "two", "labels": ["canary"]}
    assert labels(post(loading, "/admin/models/load", load)) == {
        "demo@1": [],
        "demo@v2": ["canary"],
    }
    for name in ("demo", "demo@1", "demo@v2", "demo@canary"):
        assert ask(loading, name)["model"] == name
    ask(loading, "demo@stable", 404)
    with loading.client() as client:
        listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert listed == ["demo", "demo@1", "demo@v2", "demo@canary"]

    find = loading.service.models.find
    assert find("demo") is find("demo@1")
    moved = {"model": "demo", "labels": {"stable": "v2", "canary": None}}
    assert labels(post(loading, "/admin/labels", moved)) == {"demo@1": [], "demo@v2": ["stable"]}
    assert find("demo") is find("demo@v2") is find("demo@stable")

    post(loading, "/admin/models/unload", {"model": "demo@v2"}, 400)  # a label points to it
    assert labels(post(loading, "/admin/models/unload", {"model": "demo@1"})) == {
        "demo@v2": ["stable"]
    }
    ask(loading, "demo@1", 404)
    assert ask(loading, "demo")["choices"][0]["finish_reason"] == "length"


def test_no_request_is_lost_while_versions_change(loading: Running):
    """Load the new, move the label, unload the old, and roll back, under load."""
    codes: Counter[int] = Counter()
    stop = threading.Event()

    def keep_asking() -> None:
        with loading.client() as client:
            while not stop.is_set():
                body = {**TEXT, "model": "demo", "max_tokens": 30}
                answer = client.post("/v1/completions", json=body)
                codes[answer.status_code] += 1
                tokens = answer.json()["usage"]["completion_tokens"]
                codes[200] -= tokens != 30

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    versions = ["1", "a", "b"]
    for old, new in zip(versions, versions[1:], strict=False):
        post(loading, "/admin/models/load", {"model": f"demo@{new}", "path": "one"})
        post(loading, "/admin/labels", {"model": "demo", "labels": {"stable": new}})
        if new == "a":  # roll back, and forth again
            post(loading, "/admin/labels", {"model": "demo", "labels": {"stable": old}})
            post(loading, "/admin/labels", {"model": "demo", "labels": {"stable": new}})
        old_engine = loading.service.models.find(f"demo@{old}").engine
        post(loading, "/admin/models/unload", {"model": f"demo@{old}"})
        assert not old_engine.is_healthy
    stop.set()
    for thread in threads:
        thread.join(20)

    assert set(codes) == {200}
    assert codes[200] > 8


def test_unloading_waits_for_streams_that_have_begun(loading: Running):
    post(loading, "/admin/models/load", {"model": "fox", "path": "one"})
    with loading.client() as client:
        body = {**TEXT, "model": "fox", "max_tokens": 100, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            unloading = threading.Thread(
                target=lambda: post(loading, "/admin/models/unload", {"model": "fox"})
            )
            unloading.start()
            assert eventually(lambda: "fox" not in loading.service.models.names())
            ask(loading, "fox", 404)
            said = [line for line in lines if line]
        unloading.join(10)

    assert said[-1] == "data: [DONE]"
    assert not unloading.is_alive()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "demo@1", "path": "one"}, 400),
        ({"model": "a b", "path": "one"}, 400),
        ({"model": "x@@", "path": "one"}, 400),
        ({"model": "x", "path": "three"}, 403),
        ({"model": "x", "path": "/etc"}, 403),
        ({"model": "x", "path": "../"}, 403),
        ({"model": "x", "path": "one/../../.."}, 403),
        ({"model": "x", "path": "\u0000"}, 403),
        ({"model": "x", "path": "gpt2"}, 403),
        ({"model": "x", "path": "one", "trust": True}, 400),
    ],
)
def test_what_may_not_be_loaded_is_refused(refusing: Running, body: dict, status: int):
    post(refusing, "/admin/models/load", body, status)

    assert list(refusing.service.models.names()) == ["demo"]


def test_a_checkpoint_that_is_none_is_a_refusal_and_can_be_mended(loading: Running, root: Path):
    broken = root / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "config.json").write_text("{")

    refused = post(loading, "/admin/models/load", {"model": "x", "path": "broken"}, 400)
    assert "config.json" in refused["error"]["message"]
    shutil.copytree(DEMO_MODEL, broken, dirs_exist_ok=True)
    post(loading, "/admin/models/load", {"model": "x", "path": "broken"})
    shutil.rmtree(broken)


def test_links_out_of_a_root_are_not_followed(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    shutil.copytree(DEMO_MODEL, outside)
    shutil.copytree(DEMO_MODEL, root / "mixed")
    (root / "link").symlink_to(outside)
    (root / "inner").symlink_to(root / "mixed")
    assert allowed_folder("inner", [str(root)]) == str(root / "mixed")
    (root / "mixed" / "model.safetensors").unlink()
    (root / "mixed" / "model.safetensors").symlink_to(outside / "model.safetensors")

    for path in ("link", "mixed", str(outside)):
        with pytest.raises(ApiError, match="no folder within an allowed root"):
            allowed_folder(path, [str(root)])


def test_several_models_are_served_at_once():
    with running({"pretend": "constant:0.004"}) as server:

        async def both() -> list[Any]:
            await server.service.models.load("fox", "3", "demo", ("stable",))
            return list(server.service.models)

        served = asyncio.run_coroutine_threadsafe(both(), server.loop).result(20)

        assert [each.name for each in served] == ["demo", "fox"]
        assert ask(server, "fox")["model"] == "fox"
        assert ask(server, "")["model"] == "demo"
        ask(server, "fox@1", 404)
