"""The package as a whole: what importing it costs, and who imports whom."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# package or module -> what of ours it may import; the floors of CONVENTIONS.md
MAY_IMPORT = {
    "jpaged.errors": set(),
    "jpaged.sampling_params": {"jpaged.errors"},
    "jpaged.beam_search_params": {"jpaged.errors", "jpaged.sampling_params"},
    "jpaged.scheduling": {"jpaged.errors", "jpaged.sampling_params", "jpaged.scheduling"},
    "jpaged.policies": {"jpaged.errors", "jpaged.scheduling", "jpaged.policies"},
    "jpaged.simulator": {
        "jpaged.config",
        "jpaged.errors",
        "jpaged.policies",
        "jpaged.sampling_params",
        "jpaged.scheduling",
        "jpaged.simulator",
    },
    "jpaged.analysis": {"jpaged.analysis", "jpaged.scheduling", "jpaged.simulator"},
    "pallas_kernels": {"pallas_kernels"},
    "converters": {"converters"},
    "jpaged.layers": {"jpaged.errors", "jpaged.layers", "pallas_kernels"},
    "jpaged.weights": {
        "jpaged.assets",
        "jpaged.errors",
        "jpaged.weights",
        "converters",
        "pallas_kernels",
    },
    "jpaged.models": {
        "jpaged.errors",
        "jpaged.layers",
        "jpaged.models",
        "jpaged.weights",
        "converters",
    },
    "jpaged.engine": {
        "converters",
        "jpaged.assets",
        "jpaged.beam_search_params",
        "jpaged.config",
        "jpaged.engine",
        "jpaged.errors",
        "jpaged.layers",
        "jpaged.models",
        "jpaged.policies",
        "jpaged.runner",
        "jpaged.sampling_params",
        "jpaged.scheduling",
        "jpaged.simulator",
        "jpaged.weights",
        "pallas_kernels",
    },
    "jpaged.sampling": {"jpaged.errors", "jpaged.sampling", "pallas_kernels"},
    "jpaged.runner": {
        "jpaged.errors",
        "jpaged.sampling_params",
        "jpaged.scheduling",
        "jpaged.weights",
        "jpaged.layers",
        "jpaged.models",
        "jpaged.sampling",
        "jpaged.runner",
        "pallas_kernels",
    },
}


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports, functions' insides included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "jpaged":
            found |= {f"jpaged.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {
        name for name in found if name.split(".")[0] in ("jpaged", "pallas_kernels", "converters")
    }


def files_of(package: str) -> list[Path]:
    path = ROOT / package.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_downward_only(package):
    for path in files_of(package):
        for name in imports_of(path):
            is_allowed = any(
                name == allowed or name.startswith(allowed + ".") for allowed in MAY_IMPORT[package]
            )
            assert is_allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    "module",
    [
        "jpaged",
        "jpaged.scheduling.loop",
        "jpaged.policies",
        "jpaged.config",
        "jpaged.beam_search_params",
        "jpaged.simulator.replay",
    ],
)
def test_importing_brings_no_jax_and_no_numpy(module):
    heavy = ("jax", "numpy", "flax", "pandas")
    code = f"import {module}, sys; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == "[]"


def test_importing_takes_under_a_third_of_a_second():
    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - start

    # the best of several: the machine may be busy with something else
    assert min(seconds("import jpaged") for _ in range(5)) < 0.3


def test_every_public_name_can_be_imported():
    import jpaged

    for name in jpaged.__all__:
        assert getattr(jpaged, name) is not None


def test_nothing_but_the_command_line_imports_the_server():
    for path in (ROOT / "jpaged").rglob("*.py"):
        folder = path.relative_to(ROOT / "jpaged").parts[0]
        if folder not in ("server", "cli"):
            assert not [n for n in imports_of(path) if n.startswith("jpaged.server")], path


def test_the_stub_names_what_the_package_gives():
    import jpaged

    stub = (ROOT / "jpaged/__init__.pyi").read_text()
    declared = {
        alias.asname
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == set(jpaged.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error():
    import jpaged

    misspelt = "generat"
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        getattr(jpaged, misspelt)
