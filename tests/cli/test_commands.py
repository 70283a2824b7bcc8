"""The command line, run as a user runs it."""

import io
import subprocess
import sys

import pytest

from jpaged.assets import DEMO_MODEL
from jpaged.cli import main

SMALL = ["--max-num-seqs", "2", "--max-num-batched-tokens", "16"]  # few shapes to compile
GREEDY = ["--temperature", "0", "--max-tokens", "12"]


def run_main(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def test_generate_writes_the_prompt_and_what_follows(capsys):
    code, out, _ = run_main(capsys, "generate", "demo", "Once upon a time", *SMALL, *GREEDY)

    assert code == 0
    assert out.startswith("Once upon a time")
    assert len(out.strip()) > len("Once upon a time")


def test_generate_streams_what_it_also_writes_whole(capsys):
    _, streamed, _ = run_main(capsys, "generate", "demo", "One day", *SMALL, *GREEDY)
    _, whole, _ = run_main(capsys, "generate", "demo", "One day", "A fox", *SMALL, *GREEDY)

    assert whole.startswith(streamed.strip())
    assert "A fox" in whole


def test_generate_reads_the_prompt_from_standard_input(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("One day"))

    _, out, _ = run_main(capsys, "generate", "demo", *SMALL, *GREEDY)

    assert out.startswith("One day")


def test_generate_writes_n_samples(capsys):
    flags = ["--n", "3", "--max-tokens", "5", "--sampling-seed", "1"]

    _, out, _ = run_main(capsys, "generate", "demo", "One day", *SMALL, *flags)

    assert out.count("One day") == 3


def test_chat_answers_every_line_of_its_input(capsys, monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("What is the opposite of hot?\n\nWhat is 2 + 3?\n")
    )

    code, out, err = run_main(capsys, "chat", "demo", *SMALL, *GREEDY)

    assert code == 0
    assert len(out.strip().splitlines()) >= 2
    assert err == ""  # nothing but answers when nobody sits at a terminal


def test_chat_tells_of_a_message_it_refused_and_goes_on(capsys, monkeypatch):
    too_long = "hello " * 3000
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{too_long}\nWhat is 2 + 3?\n"))

    code, out, err = run_main(capsys, "chat", "demo", *SMALL, *GREEDY)

    assert code == 1
    assert "max_model_len" in err
    assert len(out.splitlines()) == 1  # the second message's answer


def test_info_says_what_a_model_needs(capsys):
    code, out, _ = run_main(capsys, "info", "demo", "--num-pages", "7", "--max-model-len", "64")

    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if len(line.split()) > 1)
    assert rows["pages"].startswith("7 of 16 tokens")
    assert int(rows["parameters"].split()[0].replace(",", "")) <= 5_000_000


def test_a_converted_model_generates_the_same(capsys, tmp_path):
    _, before, _ = run_main(capsys, "generate", "demo", "One day", *SMALL, *GREEDY)

    code, _, _ = run_main(capsys, "convert", "demo", str(tmp_path / "converted"))
    _, after, _ = run_main(
        capsys, "generate", str(tmp_path / "converted"), "One day", *SMALL, *GREEDY
    )

    assert code == 0
    assert not list((tmp_path / "converted").glob("*.safetensors"))
    assert after == before


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["generate", "/no/such/folder", "hi"], "/no/such/folder is no folder"),
        (["generate", "demo", "hi", "--temperature", "-1"], "temperature must be"),
        (["generate", "demo", ""], "the prompt is empty"),
        (["info", "demo", "--page-size", "0"], "page_size must be a whole number"),
        (["convert", "demo", DEMO_MODEL], "is not empty; name a new folder"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_1(capsys, argv, said):
    code, out, err = run_main(capsys, *argv)

    assert code == 1
    assert out == ""
    assert said in err and err.startswith("jpaged: ") and err.count("\n") == 1


def test_an_unknown_flag_is_refused_with_the_usage(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["generate", "demo", "hi", "--temprature", "0"])

    assert exit_.value.code == 2
    assert "--temprature" in capsys.readouterr().err


def test_help_does_not_wait_for_jax():
    code = "import sys; sys.argv = ['jpaged', '--help']; import jpaged.cli as c\n"
    code += "try: c.main()\nexcept SystemExit: print('jax' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip().endswith("False")


def test_output_into_a_closed_pipe_is_no_error():
    command = (
        f"{sys.executable} -m jpaged generate demo 'One day' 'A fox' {' '.join(SMALL)} | head -c 3"
    )

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert done.stdout == "One"
    assert "Traceback" not in done.stderr
