"""The command line, run as a user runs it."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jpaged
from jpaged.assets import DEMO_MODEL
from jpaged.cli import main
from jpaged.cli.main import EXTRAS
from jpaged.cli.options import engine_options
from jpaged.cli.parser import build_parser
from jpaged.config import EngineConfig

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
        (["info", "demo", "--tensor-parallel-size", "2"], "2 is not there yet"),
        (["rm", "demo"], "demo comes with jpaged"),
        (["run", "demo", ""], "the prompt is empty"),
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


@pytest.mark.parametrize("command", ["run", "generate"])
def test_flags_may_stand_between_words(command):
    argv = [command, "demo", "--temperature", "-3", "hi", "--max-tokens", "2", "there"]

    args = build_parser().parse_args(argv)

    assert (args.model, args.prompt) == ("demo", ["hi", "there"])
    assert (args.temperature, args.max_tokens) == (-3.0, 2)


@pytest.mark.parametrize("command", ["run", "generate"])
def test_only_the_model_is_required(capsys, command):
    with pytest.raises(SystemExit):
        main([command])

    assert capsys.readouterr().err.endswith("arguments are required: model\n")


def test_a_second_name_of_a_command_has_its_own_help(capsys):
    with pytest.raises(SystemExit):
        main(["show", "--help"])

    assert capsys.readouterr().out.startswith("usage: jpaged show ")


def test_flags_of_vllm_for_what_we_have_are_understood():
    flags = ["--block-size", "32", "--max-logprobs", "50", "--tensor-parallel-size", "1"]

    args = build_parser().parse_args(["serve", "demo", *flags])

    config = EngineConfig.from_options("demo", **engine_options(args))
    assert (config.page_size, config.max_logprobs) == (32, 50)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trust-remote-code"], "never runs code from a checkpoint"),
        (["-tp", "4"], "several devices are not built yet"),
        (["--quantization=awq"], "--quantization is vLLM's: leave it out; quantisation"),
        (["--num-gpu-blocks-override", "9"], "here it is --num-pages"),
        (["--cpu-offload-gb", "1"], "jpaged has none"),
    ],
)
def test_flags_of_vllm_that_we_lack_are_answered_in_one_line(capsys, flags, said):
    with pytest.raises(SystemExit) as exit_:
        main(["serve", "demo", *flags])

    err = capsys.readouterr().err
    assert exit_.value.code == 2
    assert said in err and err.count("\n") == 1


def test_run_refuses_an_empty_input_before_it_starts_a_server(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    code, out, err = run_main(capsys, "run", "demo")

    assert (code, out) == (1, "")
    assert err.startswith("jpaged: the prompt is empty") and err.count("\n") == 1


CORE = {"huggingface_hub", "jax", "jinja2", "numpy", "transformers", "argcomplete", "tokenizers"}
OURS = {"jpaged", "converters", "pallas_kernels"}


def test_whatever_a_server_imports_is_core_or_of_an_extra_that_is_named():
    imported = set()
    for path in Path(jpaged.__file__).parent.glob("*/**/*.py"):
        if path.parts[-2] not in ("server", "bench", "cli", "page"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])

    assert imported - sys.stdlib_module_names - OURS - CORE <= EXTRAS.keys()


@pytest.mark.parametrize("command", [("serve", "demo"), ("run", "demo", "Hi")])
def test_without_its_extra_a_server_names_it_in_one_line(tmp_path, command):
    missing = tmp_path / "starlette.py"  # stands before the one that is installed
    missing.write_text('raise ModuleNotFoundError("No module named starlette", name="starlette")')
    variables = {"PYTHONPATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-m", "jpaged", *command],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )

    said = "jpaged: No module named starlette; pip install 'jpaged[serve]' brings it\n"
    assert done.returncode == 1
    assert done.stderr.removeprefix("starting a server for demo …\n") == said


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
