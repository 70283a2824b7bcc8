"""Policies and routers that somebody wrote himself, named on a command line.

mine.py:MyPolicy            a file, and what is in it
package.module:MyPolicy     a module, installed or in the folder where one stands
package.module:Mine.wide    what makes one may also be a function, or a class's method

Naming one runs its code, so only who may start programs here may do that: whatever comes over a
network is looked up in `jpaged.policies.NAMES`, and nowhere else.
"""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jpaged.errors import ConfigError
from jpaged.scheduling.policy import Policy
from jpaged.simulator.routing import Router

PATH = re.compile(r"[A-Za-z_][\w.]*")
# what has to be there, and in which words one is told
NEEDED = {Policy: ("propose", "victim"), Router: ("route",)}
KINDS = {Policy: "policy", Router: "router"}


def looks_own(place: str, name: str) -> bool:
    """Whether `place:name` names something in a file or a module."""
    return place.endswith(".py") or bool(PATH.fullmatch(place) and PATH.fullmatch(name))


def find(place: str, name: str, base: type) -> Callable[..., Any]:
    """What makes a policy or a router, whichever base is.  Raises `ConfigError`, which says what is
    wrong and where."""
    module = _from_file(Path(place)) if place.endswith(".py") else _from_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            there = ", ".join(_named_in(module, base)) or f"no {KINDS[base]} at all"
            said = f"has no {name!r}" if name else f"is a file; say what of it: {place}:NAME"
            raise ConfigError(f"{place} {said}; there is {there}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{place}:{name} is {found!r:.60}; name a class, or what makes a policy")
    if isinstance(found, type):
        _check(found, base)
    return found


def _check(found: type, base: type) -> None:
    missing = [name for name in NEEDED[base] if not hasattr(found, name)]
    first = NEEDED[base][0]
    if getattr(found, first, None) is getattr(base, first):
        missing.append(first)
    is_other = base is Router and not issubclass(found, Router)
    if missing or is_other:
        what = f"has no method {' and no '.join(missing)}" if missing else "is no Router"
        module = "jpaged" if base is Policy else "jpaged.simulator"
        raise ConfigError(
            f"{_where(found)}: {found.__name__} {what}; derive it from {module}.{base.__name__} "
            f"and write {first}"
        )


def _where(found: type) -> str:
    """File and line, as editors understand them."""
    try:
        return f"{inspect.getsourcefile(found)}:{inspect.getsourcelines(found)[1]}"
    except (OSError, TypeError):  # without a source
        return found.__module__


def _named_in(module: ModuleType, base: type) -> list[str]:
    """The policies, or routers, that were written there."""
    return [
        name
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, base) and each.__module__ == module.__name__
    ]


def _from_file(path: Path) -> ModuleType:
    """Run once, however often it is named."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path} (in {Path.cwd()})")
    name = re.sub(r"\W", "_", str(path.resolve()))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _make_importable(path.resolve().parent)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        _run(lambda: spec.loader.exec_module(module), path)  # pyright: ignore
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_module(name: str) -> ModuleType:
    _make_importable(Path.cwd())
    try:
        return _run(lambda: importlib.import_module(name), name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"there is no module {error.name}, neither installed nor in {Path.cwd()}"
        ) from error


def _run(code: Callable[[], Any], what: object) -> Any:
    """Of what code raises, those errors get its place that would be told without."""
    try:
        return code()
    except (SyntaxError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{what} cannot be run: {type(error).__name__}: {error}") from error


def _make_importable(folder: Path) -> None:
    """What lies beside it may be imported, as in a script; behind all else, so as to hide
    nothing."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
