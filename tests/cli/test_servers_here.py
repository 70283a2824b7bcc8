"""Servers on this machine: ps, stop, run.  Real ones, whose device is pretended."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jpaged.cli import main
from jpaged.cli.client import Client, ServerError
from jpaged.cli.conversation import Conversation
from jpaged.cli.stop import chosen
from jpaged.cli.terminal import command
from jpaged.errors import ConfigError
from jpaged.server import registry
from jpaged.server.registry import Entry, running

SLOW = "constant:0.02"  # seconds a step: an answer of 300 tokens takes six


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def start(*words: str) -> subprocess.Popen[str]:
    """A command, in a process as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "jpaged", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Ctrl-C is heard from the terminal that a session has made its own; and who was started from the
# background ignores it, until told otherwise.
IN_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "jpaged", *sys.argv[1:]])
"""


def start_in_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """A command in a terminal of its own, and the end that a person would sit at.  Not by a fork:
    this process has JAX's threads."""
    person, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    return process, person


def started_server(*words: str) -> tuple[subprocess.Popen[str], Entry]:
    process = start("serve", "demo", "--port", "0", "--pretend", SLOW, *words)
    assert eventually(lambda: process.poll() is not None or of_pid(process.pid))
    return process, of_pid(process.pid)[0]


def of_pid(pid: int) -> list[Entry]:
    return [entry for entry in running() if entry.pid == pid]


def num_running(entry: Entry) -> int:
    return Client(entry.url).get("/load")["server_load"]


def run_main(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.delenv("JPAGED_API_KEY", raising=False)
        yield folder


@pytest.fixture(scope="module")
def server() -> Iterator[Entry]:
    process, entry = started_server("--num-pages", "64")
    yield entry
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture
def talk(server: Entry) -> Conversation:
    return Conversation(Client(server.url), "demo", {"max_tokens": 4})


def test_ps_says_where_a_server_is_and_what_it_does(capsys, server):
    asking = Conversation(Client(server.url), "demo", {"max_tokens": 300}).ask("Hello")
    next(asking)
    time.sleep(0.2)  # figures are of the step before
    code, out, _ = run_main(capsys, "ps")
    asking.close()

    [head, row] = (re.split(r"  +", line) for line in out.splitlines())
    found = dict(zip(head, row, strict=True))
    assert code == 0
    assert (found["MODEL"], found["URL"], found["STATE"]) == ("demo", server.url, "serving")
    assert (found["RUNNING"], found["WAITING"]) == ("1", "0")
    assert 0 < float(found["KV CACHE"].rstrip("%")) < 50
    assert found["UP"].endswith(("second", "seconds"))
    assert eventually(lambda: num_running(server) == 0)  # who hangs up is not waited for


def test_ps_shows_no_figures_of_a_server_that_does_not_tell(capsys):
    gone = "http://127.0.0.1:9"
    registry.enter("127.0.0.1", 9, {"fox": "/models/fox"})

    _, out, _ = run_main(capsys, "ps")
    registry.path_of(os.getpid()).unlink()

    [row] = (re.split(r"  +", line) for line in out.splitlines() if gone in line)
    assert row[3:7] == ["silent", "-", "-", "-"]


def test_a_conversation_goes_on_with_what_was_said(talk):
    first = "".join(talk.ask("Hello"))
    second = "".join(talk.ask("And then?"))

    assert first and second and first != second
    assert [message["role"] for message in talk.messages] == ["user", "assistant"] * 2
    assert talk.messages[1]["content"] == first.strip()


def test_what_was_cut_off_still_counts_as_said(talk, server):
    talk.options["max_tokens"] = 300
    pieces = talk.ask("Hello")
    said = next(pieces)
    pieces.close()

    assert talk.messages[-1] == {"role": "assistant", "content": said.strip()}
    assert eventually(lambda: num_running(server) == 0)


def test_a_question_that_is_refused_is_forgotten(talk):
    with pytest.raises(ServerError, match="max_model_len"):
        list(talk.ask("hello " * 3000))

    assert talk.messages == []
    assert "".join(talk.ask("Hello"))


def test_commands_set_and_clear(talk, capsys):
    command(talk, "/set temperature 0.5")
    command(talk, "/set parameter top_k 7")
    command(talk, '/set system "Be brief."')
    command(talk, "/set temperature hot")
    command(talk, "/set colour blue")
    list(talk.ask("Hello"))
    command(talk, "/clear")
    command(talk, "/dance")
    command(talk, "/help")

    err = capsys.readouterr().err
    assert (talk.options["temperature"], talk.options["top_k"]) == (0.5, 7)
    assert talk.system == "Be brief."
    assert talk.messages == []
    assert "temperature must be a number, not 'hot'" in err
    assert "no setting 'colour'" in err
    assert "there is no command /dance" in err
    assert "/bye" in err
    assert "command /help" not in err


def test_run_answers_on_the_server_that_has_the_model(capsys, server):
    code, out, err = run_main(capsys, "run", "demo", "Hello", "there", "--max-tokens", "3")

    assert code == 0
    assert len(out.split()) >= 1
    assert "starting" not in err


def test_run_finds_a_model_by_its_folder_too(capsys, server):
    code, _, err = run_main(capsys, "run", server.models["demo"], "Hi", "--max-tokens", "3")

    assert code == 0
    assert "starting" not in err


def test_run_answers_what_stands_on_its_input(capsys, server, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))

    code, out, _ = run_main(capsys, "run", "demo", "--url", server.url, "--max-tokens", "3")

    assert code == 0
    assert out.strip()


def test_run_says_in_one_line_what_a_server_refused(capsys, server):
    code, out, err = run_main(capsys, "run", "demo", "Hello", "--temperature", "-1")

    assert (code, out) == (1, "")
    assert "temperature" in err and err.count("\n") == 1


def test_a_server_that_cannot_be_reached_is_an_error_in_one_line(capsys):
    code, _, err = run_main(capsys, "run", "demo", "Hi", "--url", "http://127.0.0.1:9")

    assert code == 1
    assert err == "jpaged: http://127.0.0.1:9: [Errno 111] Connection refused\n"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where no server runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("JPAGED_SERVE_PRETEND", SLOW)


def test_a_server_that_run_started_ends_with_the_last_who_uses_it(alone):
    first = start("run", "demo", "Hello", "--max-tokens", "900")
    assert eventually(lambda: running() and num_running(running()[0]) == 1)
    [entry] = running()
    second = start("run", "demo", "Hello", "--max-tokens", "60")
    assert eventually(lambda: num_running(entry) == 2)

    first.kill()  # it cannot say good-bye
    first.communicate()
    out, err = second.communicate(timeout=30)

    assert second.returncode == 0, err
    assert len(out.split()) > 30  # it was not cut off
    assert eventually(lambda: not running())
    assert list(registry.folder().iterdir()) == []


def test_a_server_that_is_kept_stays_and_drains_when_it_is_stopped(alone):
    first = start("run", "demo", "Hi", "--max-tokens", "2", "--keep")
    _, err = first.communicate(timeout=30)
    [entry] = running()
    assert first.returncode == 0
    assert f"it stays at {entry.url}" in err
    [log] = registry.folder().glob("*.log")
    assert f"what it says is in {log}\n" in err
    assert log.read_text().startswith("jpaged serves demo (")
    asking = Conversation(Client(entry.url), "demo", {"max_tokens": 60}).ask("Hello")
    said = next(asking)

    stopping = start("stop", "demo")
    said += "".join(asking)  # raises if it is cut off
    out, _ = stopping.communicate(timeout=20)

    assert len(said.split()) > 30
    assert out == f"stopped demo at {entry.url}\n"
    assert list(registry.folder().iterdir()) == []


def test_a_server_that_cannot_start_says_why(capsys, alone, monkeypatch):
    monkeypatch.setenv("JPAGED_SERVE_NUM_PAGES", "0")

    code, _, err = run_main(capsys, "run", "demo", "Hi")

    assert code == 1
    assert "num_pages" in err.splitlines()[-1]
    assert list(registry.folder().iterdir()) == []


def test_what_a_server_said_that_ended_badly_is_kept(alone):
    first = start("run", "demo", "Hi", "--max-tokens", "2", "--keep")
    first.communicate(timeout=30)
    [entry] = running()
    children = psutil.Process(entry.pid).children()
    [engine] = [each for each in children if "engine_process" in str(each.cmdline())]
    engine.kill()
    assert eventually(lambda: not entry.is_alive)

    [log] = registry.folder().glob("*.log")
    assert "the engine process was killed by SIGKILL" in log.read_text()


def test_a_server_of_one_page_says_that_it_holds_little(alone):
    process, entry = started_server("--num-pages", "1")
    process.terminate()
    _, err = process.communicate(timeout=20)

    assert err == "jpaged: demo holds no more than the 16 tokens of its one page; raise num_pages\n"


def test_stop_now_cuts_off_what_still_runs(alone):
    process, entry = started_server()
    asking = Conversation(Client(entry.url), "demo", {"max_tokens": 300}).ask("Hello")
    next(asking)
    stopping = start("stop", entry.url, "--now")

    with pytest.raises(ServerError):
        list(asking)
    out, _ = stopping.communicate(timeout=20)

    assert out == f"stopped demo at {entry.url}\n"
    assert process.wait(5) == 4
    assert list(registry.folder().iterdir()) == []
    process.communicate()


def entry_of(url: str, *names: str) -> Entry:
    return Entry(1, "then", url, {name: f"/models/{name}" for name in names}, 0.0)


def test_stop_does_not_guess():
    fox, both = entry_of("http://h:1", "fox"), entry_of("http://h:2", "owl", "bear")
    again = entry_of("http://h:3", "fox")

    assert chosen([fox, both], "fox") == [fox]
    assert chosen([fox, both], "http://h:2/") == [both]
    assert chosen([fox, both], "all") == [fox, both]
    with pytest.raises(ConfigError, match="2 servers have fox"):
        chosen([fox, again], "fox")
    with pytest.raises(ConfigError, match="to stop them all, name its URL, http://h:2"):
        chosen([fox, both], "owl")
    with pytest.raises(ConfigError, match="no server 'wolf' runs here: fox at http://h:1"):
        chosen([fox], "wolf")


def test_ctrl_c_stops_an_answer_and_not_the_conversation(server):
    child, terminal = start_in_terminal("run", "demo")
    seen = ""

    def read_until(text: str) -> str:
        nonlocal seen
        while text not in seen:
            seen += os.read(terminal, 4096).decode(errors="replace")
        before, _, seen = seen.partition(text)
        return before

    read_until(">>> ")
    os.write(terminal, b"Hello\n")
    read_until("Hello")
    assert eventually(lambda: num_running(server) == 1)
    os.write(terminal, b"\x03")
    assert "…" in read_until(">>> ")
    assert eventually(lambda: num_running(server) == 0)
    os.write(terminal, b"/set max_tokens 2\n/bye\n")
    assert child.wait(20) == 0
    os.close(terminal)

    assert of_pid(server.pid)  # somebody else's server stays
