"""Copies of what others wrote: each replica gets a policy of its own, and each run a router."""

from collections.abc import Iterator
from copy import deepcopy

from jpaged.errors import ConfigError


def copy_of[Thing](thing: Thing, kind: str) -> Thing:
    """A deep copy.  kind: what it is, for people.  Raises `ConfigError`, naming the attribute that
    cannot be copied and the way out."""
    try:
        return deepcopy(thing)
    except Exception as error:  # whatever somebody else's code, or what it holds, has against it
        name = type(thing).__name__
        path, part = _culprit(thing, "self", {})
        where = f": {path} is a {type(part).__name__}" if part is not thing else ""
        raise ConfigError(
            f"{kind} {name} cannot be copied, and each run needs a copy of its own{where} "
            f"({type(error).__name__}: {error}); make such things when they are first needed, or "
            f"give {name} a __deepcopy__(self, memo) that says what a copy of it is"
        ) from error


def _culprit(thing: object, path: str, above: dict[int, object]) -> tuple[str, object]:
    """The innermost part of it that cannot be copied, and how one gets there.  above: what it is a
    part of, which its own parts may refer to."""
    above = above | {id(thing): thing}
    for step, part in _parts(thing):
        if id(part) not in above and not _can_be_copied(part, above):
            return _culprit(part, path + step, above)
    return path, thing


def _parts(thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, dict):
        yield from ((f"[{key!r}]", part) for key, part in thing.items())
    elif isinstance(thing, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(thing))
    else:
        yield from ((f".{name}", part) for name, part in getattr(thing, "__dict__", {}).items())


def _can_be_copied(part: object, above: dict[int, object]) -> bool:
    try:
        deepcopy(part, dict(above))  # as if those were copied already
    except Exception:  # of any kind, as before
        return False
    return True
