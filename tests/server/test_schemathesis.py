"""schemathesis invents requests from /openapi.json, proper ones and others, and reads the answers.

It comes with `pip install jpaged[clients]`; JPAGED_CLIENTS_PYTHON names another interpreter.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from servers import process
from test_clients import CLIENTS, python_with

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance"),
)
PER_OPERATION = 25  # besides those that cover the schema systematically
NUM_EXAMPLES = 2000  # at least
SECONDS = 2.0  # of an answer, the machine being busy with inventing
# whatever is let in is over soon
FLAGS = ("demo", "--port", "0", "--pretend", "constant:0.0001", "--max-model-len", "64")


@pytest.mark.slow
def test_no_request_that_it_invents_is_answered_otherwise_than_documented(tmp_path: Path):
    python = python_with("schemathesis")
    with process(*FLAGS, "--no-log-requests") as server:
        ran = subprocess.run(
            [
                *(python, "-m", "schemathesis.cli", "--no-color", "run"),
                *(f"{server.url}/openapi.json", "--checks", ",".join(CHECKS), "--seed", "1"),
                *("--max-examples", str(PER_OPERATION), "--max-response-time", str(SECONDS)),
                "--continue-on-failure",
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(CLIENTS / "schemathesis_hooks.py")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        with server.client() as client:
            assert client.get("/health").status_code == 200

    print(ran.stdout[-1500:])  # with -s
    assert ran.returncode == 0, ran.stdout[-8000:]
    found = re.search(r"(\d+) generated, \d+ passed", ran.stdout)
    assert found and int(found[1]) >= NUM_EXAMPLES
