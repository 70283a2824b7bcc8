"""Other people's clients, unmodified, each in a process of its own.

They are what `pip install jpaged[clients]` brings, and openai from npm.  Where they are installed
apart, JPAGED_CLIENTS_PYTHON names the interpreter, JPAGED_CLIENTS_NODE the node_modules.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import Running

CLIENTS = Path(__file__).parent / "clients"
PROMPT = "Tell me a story about a fox."
ENVIRONMENT = {
    **os.environ,
    "NODE_PATH": os.environ.get("JPAGED_CLIENTS_NODE", ""),
    "NO_PROXY": "127.0.0.1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network
}

pytestmark = pytest.mark.slow


def python_with(module: str) -> str:
    python = os.environ.get("JPAGED_CLIENTS_PYTHON", sys.executable)
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    if subprocess.run([python, "-c", code]).returncode:
        pytest.skip(f"{python} has no {module}: pip install jpaged[clients]")
    return python


def node_with(module: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    code = f"require.resolve({module!r})"
    if subprocess.run([node, "-e", code], env=ENVIRONMENT, stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"node finds no {module}: npm install {module}, and JPAGED_CLIENTS_NODE")
    return node


def heard(program: str, script: str, server: Running, prompt: str = PROMPT) -> dict[str, Any]:
    """What a client prints of what it heard."""
    ran = subprocess.run(
        [program, str(CLIENTS / script), server.url, prompt],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])  # some say more
    print(script, found)  # with -s: which version it was
    return found


def openai_says(server: Running, route: str, **fields: Any) -> dict[str, Any]:
    """The oracle, which is held against the offline engine elsewhere."""
    with server.client() as http:
        answer = http.post(f"/v1/{route}", json={"temperature": 0, "max_tokens": 12, **fields})
    return answer.json()


def assert_it_chats(found: dict[str, Any], server: Running) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    expected = openai_says(server, "chat/completions", messages=messages)
    assert found["text"] == found["streamed"] == expected["choices"][0]["message"]["content"]
    assert found["finish_reason"] == "length"
    assert found["prompt_tokens"] == expected["usage"]["prompt_tokens"]
    assert found["completion_tokens"] == 12
    assert found["num_chunks"] > 3
    assert "'nothing' does not exist" in found["error"]


def test_litellm_chats(demo_server: Running):
    python = python_with("litellm")
    assert_it_chats(heard(python, "litellm_client.py", demo_server), demo_server)


def test_langchain_chats(demo_server: Running):
    python = python_with("langchain_openai")
    assert_it_chats(heard(python, "langchain_client.py", demo_server), demo_server)


def test_openai_of_npm_chats(demo_server: Running):
    node = node_with("openai")
    assert_it_chats(heard(node, "openai_client.cjs", demo_server), demo_server)


def test_triton_infers(demo_server: Running):
    prompt = "Once upon a time"
    expected = openai_says(demo_server, "completions", prompt=prompt)["choices"][0]["text"]

    found = heard(python_with("tritonclient.http"), "triton_client.py", demo_server, prompt)

    assert found["text"] == expected
    assert (found["id"], found["versions"], found["server"]) == ("from-triton", ["1"], "jpaged")
    assert found["is_live"] and found["is_ready"]
    assert "'nothing' does not exist" in found["error"]
    for refusal in (found["binary_input"], found["binary_output"]):
        assert "give binary_data=False to" in refusal
