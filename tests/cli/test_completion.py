"""A shell gets its words: commands, flags, models and servers."""

import os
import subprocess
import sys

import pytest

from jpaged.cli import main
from jpaged.server import registry

ASK = "import sys; sys.argv = ['jpaged']; from jpaged.cli import main; main()"


def words(line: str, **variables: str) -> list[str]:
    """What fits at the end of a line, as a shell asks for it."""
    asking = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SHELL": "fish",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = ["bash", "-c", 'exec 8>&1; exec "$0" -c "$1" 9>/dev/null', sys.executable, ASK]
    done = subprocess.run(
        command, env={**os.environ, **asking, **variables}, capture_output=True, text=True
    )
    return [word.split("\t")[0].strip() for word in done.stdout.splitlines()]


def test_commands_and_flags_are_known(tmp_path):
    assert words("jpaged com") == ["compare", "completion"]
    assert words("jpaged bench serve --random-i") == ["--random-input-len"]
    assert words("jpaged serve demo --policy sr") == ["srpt"]


def test_models_of_the_cache_are_known(tmp_path):
    (tmp_path / "hub" / "models--org--fox").mkdir(parents=True)

    assert words("jpaged show o", HF_HOME=str(tmp_path)) == ["org/fox"]


def test_running_servers_are_known(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    registry.enter("127.0.0.1", 8000, {"fox": "/models/fox"})

    assert words("jpaged stop f") == ["fox"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_reads_names_the_command(capsys, shell):
    assert main(["completion", shell]) == 0

    assert "jpaged" in capsys.readouterr().out


def test_bash_understands_what_it_is_given(capsys):
    main(["completion", "bash"])

    script = capsys.readouterr().out + "\ncomplete -p jpaged"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "-F" in done.stdout
