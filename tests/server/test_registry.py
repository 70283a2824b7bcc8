"""A server is listed for as long as its process lives, and not a moment longer."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import eventually

from jpaged.server import registry
from jpaged.server.registry import Entry, birth_of, running

ENTER = """
import sys, time
from jpaged.server.registry import enter
enter(sys.argv[1], int(sys.argv[2]), {"fox": "/models/fox"})
print("listed", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def listed() -> Iterator[subprocess.Popen[str]]:
    """A process that has listed itself, and ends when its input does."""
    with subprocess.Popen(
        [sys.executable, "-c", ENTER, "0.0.0.0", "8123"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "listed\n"
        yield child
        child.kill()


def put(entry: Entry) -> Path:
    path = registry.path_of(entry.pid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(vars(entry)))
    return path


def test_a_server_is_listed_until_it_ends(listed):
    [entry] = running()
    assert entry.pid == listed.pid
    assert entry.url == "http://127.0.0.1:8123"  # where it is reached, not where it listens
    assert entry.models == {"fox": "/models/fox"}

    listed.communicate(timeout=10)

    assert list(registry.folder().iterdir()) == []


def test_nobody_else_may_read_an_entry(listed):
    [path] = registry.folder().iterdir()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_one_that_was_killed_is_forgotten_by_whoever_looks(listed):
    listed.kill()
    listed.wait(10)
    assert len(list(registry.folder().iterdir())) == 1

    assert running() == []
    assert list(registry.folder().iterdir()) == []


def test_another_process_with_the_number_of_one_that_is_gone_is_none(listed):
    [entry] = running()
    path = put(Entry(os.getpid(), entry.born, entry.url, entry.models, entry.since))

    assert [each.pid for each in running()] == [listed.pid]
    assert not path.exists()


def test_what_no_server_wrote_is_taken_away(listed):
    path = registry.path_of(listed.pid)
    path.write_text("[1, 2")

    assert running() == []
    assert not path.exists()


def test_servers_of_another_machine_are_left_alone(listed):
    there = registry.folder() / "elsewhere-1.json"
    there.write_text("{}")

    assert len(running()) == 1
    assert there.exists()


def test_the_birth_of_a_process_is_its_own_and_stays():
    mine = birth_of(os.getpid())

    assert mine == birth_of(os.getpid()) != birth_of(1)
    assert birth_of(2**22 + 1) is None  # beyond the largest number


def test_a_process_that_ended_and_nobody_waited_for_is_gone(listed):
    listed.kill()

    assert eventually(lambda: birth_of(listed.pid) is None)


def test_a_relative_state_home_is_ignored_as_its_specification_asks(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "here")

    assert registry.folder() == Path.home() / ".local" / "state" / "jpaged" / "servers"


def test_a_server_serves_where_it_cannot_be_listed(tmp_path, monkeypatch, caplog):
    (tmp_path / "jpaged").write_text("a file where the folder should be")

    registry.enter("127.0.0.1", 1, {})

    assert "will not show this server" in caplog.text
    assert running() == []
