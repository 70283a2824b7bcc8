"""`jpaged serve`: where its options come from, and what it says and ends with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import psutil
import pytest
from servers import Process, eventually, process

from jpaged.cli.parser import build_parser
from jpaged.cli.server_options import gathered
from jpaged.errors import ConfigError
from jpaged.server.options import ServerOptions
from jpaged.server.serve import Exit

FLAGS = ("demo", "--port", "0", "--pretend", "constant:0.01", "--num-pages", "2000")


def options(*flags: str, env: dict[str, str] | None = None) -> dict:
    return gathered(vars(build_parser().parse_args(["serve", *flags])), env or {})


def test_flags_go_before_the_environment_that_before_a_file_and_that_before_defaults(tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text("model: demo\nport: 1\nhost: 0.0.0.0\nmax-num-seqs: 7\nopen_metrics: true\n")
    env = {"JPAGED_SERVE_PORT": "2", "JPAGED_SERVE_MAX_NUM_SEQS": "8"}

    found = options("--config", str(file), "--port", "3", env=env)

    assert (found["port"], found["max_num_seqs"], found["host"]) == (3, 8, "0.0.0.0")
    assert (found["model"], found["open_metrics"]) == ("demo", True)
    assert options("--config", str(file), env=env)["port"] == 2
    assert options("--config", str(file))["port"] == 1
    assert options("demo").get("port") is None
    assert ServerOptions.of(options("demo")).port == 8000


def test_lists_may_be_given_everywhere(tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text("models: [a=demo, b@2=demo]\napi_key: [x, y]\n")

    assert options("--config", str(file))["models"] == ["a=demo", "b@2=demo"]
    assert ServerOptions.of(options("--config", str(file))).api_key == ("x", "y")
    assert options("--api-key", "p", "--api-key", "q")["api_key"] == ["p", "q"]
    assert options(env={"JPAGED_SERVE_MODELS": "a=x,b=y"})["models"] == ["a=x", "b=y"]


@pytest.mark.parametrize("name", ["JPAGED_API_KEY", "VLLM_API_KEY"])
def test_keys_come_from_variables_too(name: str):
    assert options("demo", env={name: "a,b"})["api_key"] == ["a", "b"]
    assert options("demo", "--api-key", "c", env={name: "a"})["api_key"] == ["c"]


def test_what_kubernetes_writes_for_a_service_is_not_taken_for_a_port():
    env = {"JPAGED_SERVE_PORT": "tcp://10.0.0.1:80", "JPAGED_SERVE_SERVICE_HOST": "10.0.0.1"}

    assert "port" not in options("demo", env=env)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 5", "prot"),
        ("port: many", "invalid int value"),
        ("[1, 2]", "must map options to values"),
        ("a: [", "no YAML"),
        ("config: other.yaml", "config"),
        ("policy: none", "no policy 'none'"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, said: str):
    file = tmp_path / "serve.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=said):
        options("--config", str(file))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"port": 70000}, "port"),
        ({"max_num_queued_reqs": 0}, "max_num_queued_reqs"),
        ({"api_key": ("",)}, "api_key"),
        ({"shutdown_timeout": -1.0}, "shutdown_timeout"),
        ({"model_root": ("/nowhere",)}, "no folder"),
        ({"chat_template": "/nowhere"}, "no file"),
    ],
)
def test_an_option_that_is_wrong_says_why(wrong: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        ServerOptions(**wrong)


def test_it_tells_in_one_line_that_it_serves_and_what():
    flags = (*FLAGS, "--served-model-name", "fox", "bear", "--model", "owl@v2=demo", "--in-process")
    with process(*flags, env={"JPAGED_API_KEY": "secret"}) as server:
        assert server.line.startswith("jpaged serves fox (2000 pages of 16 tokens), owl (2000 ")
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret") as client:
            assert [model.id for model in client.models.list()] == ["fox", "owl", "bear"]
            for name in ("fox", "bear", "owl", "owl@v2"):
                answer = client.completions.create(model=name, prompt="Hi", max_tokens=2)
                assert answer.usage and answer.usage.completion_tokens == 2
        server.signal(signal.SIGINT)
        code, err = server.wait()

    assert code == Exit.DRAINED
    assert "secret" not in server.line + err


def test_an_engine_that_dies_takes_the_server_with_it():
    with process(*FLAGS) as server, server.client() as client:
        [engine] = engines_of(server)
        body = {"prompt": "Hi", "max_tokens": 900, "ignore_eos": True, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            engine.kill()
            rest = [line for line in lines if line]
        assert '"error"' in rest[-1]
        assert "data: [DONE]" not in rest
        code, err = server.wait()

    assert code == Exit.ENGINE_DIED
    assert "engine" in err


def test_an_engine_is_begun_anew_if_one_wants():
    with process(*FLAGS, "--engine-restarts", "1") as server, server.client() as client:
        [engine] = engines_of(server)
        engine.kill()
        assert eventually(lambda: client.get("/health").status_code == 503, 2)
        refused = client.post("/v1/completions", json={"prompt": "Hi"})
        assert refused.status_code == 503
        assert eventually(lambda: client.get("/health").status_code == 200, 20)
        answer = client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 2})
        assert answer.status_code == 200
        server.signal(signal.SIGTERM)
        assert server.wait()[0] == Exit.DRAINED


def test_nothing_is_left_of_a_server_that_is_killed():
    with process(*FLAGS) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert len(children) >= 2  # the engine, and what renders templates
        os.kill(server.process.pid, signal.SIGKILL)
        gone, left = psutil.wait_procs(children, timeout=5)

    assert len(gone) == len(children)
    assert left == []


def engines_of(server: Process) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [each for each in children if any("engine_process" in word for word in each.cmdline())]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "no model to serve"),
        (("--model", "fox="), "write MODEL, or NAME=PATH"),
        (("/nowhere",), "/nowhere is no folder"),
        (("demo", "--max-num-seqs", "0"), "max_num_seqs"),
        (("demo", "--pretend", "magic"), "magic"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_code_1(flags: tuple[str, ...], said: str):
    start = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        Process(*flags, "--port", "0")

    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert time.monotonic() - start < 20


def test_a_server_brings_no_jax_and_no_torch():
    code = (
        "import sys, jpaged.server.serve, jpaged.server.remote_engine; "
        "print([name for name in ('jax', 'torch', 'flax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
