"""What comes from elsewhere is data: nothing reads it that could run code, no URL is fetched."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("jpaged", "converters", "pallas_kernels")
RUN_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
FETCH = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "urllib3", "ftplib"}
# an engine's own snapshot, whose pickle may name a list of classes and nothing else
MAY_PICKLE = {"jpaged/engine/freezing.py"}
CALLS = {"eval", "exec", "compile", "__import__"}
CALLS |= {"os.system", "os.popen", "yaml.load", "yaml.full_load"}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dangerous_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in CALLS:
            yield name
        for keyword in node.keywords:
            value = ast.unparse(keyword.value)
            is_trusting = keyword.arg in ("trust_remote_code", "allow_pickle") and value != "False"
            if is_trusting or (keyword.arg == "shell" and value == "True"):
                yield f"{name}({keyword.arg}={value})"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_reads_what_could_run_code(package: str):
    found = {}
    for path in files(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loads = {name for name in imports(tree) if name.partition(".")[0] in RUN_CODE}
        if found_here := {*loads, *dangerous_calls(tree)}:
            found[str(path.relative_to(ROOT))] = found_here

    assert found.keys() <= MAY_PICKLE, found


def test_the_server_fetches_nothing():
    """Not a picture that a request names, nor anything else."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in files("jpaged/server")
        if (names := FETCH & set(imports(ast.parse(path.read_text(encoding="utf-8")))))
    }

    assert found == {}


def test_no_assert_in_the_server_guards_more_than_a_type():
    """`python -O` takes them away; test_refusals.py asks such a server everything, too."""
    for path in files("jpaged/server"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                said = ast.unparse(node.test)
                assert "is not None" in said or said.startswith("isinstance("), f"{path}: {said}"
