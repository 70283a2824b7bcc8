"""The grammar of what one writes on a command line.

name:option=value,option=value      poisson:rate=4,prompt_len=[20,700],client=chat
value                               a number, a word, a list, or one of OBJECTS with its arguments,
                                    as in Python: Uniform(20,700), Noisy(sigma=0.5)
"""

import ast
import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from jpaged import policies
from jpaged.errors import ConfigError
from jpaged.simulator import routers
from jpaged.simulator.lengths import Lengths
from jpaged.simulator.workload import laws

OBJECTS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        *(laws.Fixed, laws.Uniform, laws.Geometric, laws.Zipf, Lengths, laws.Pauses),
        *(policies.Oracle, policies.Noisy, policies.Learned),
        *policies.NAMES.values(),  # which others are wrapped around
        *routers.NAMES.values(),
    )
}
LONG = re.compile(r"\d+\.\d{4,}")


def split(text: str) -> list[str]:
    """At commas, but those in brackets."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def value_of(text: str) -> Any:
    """What is meant: the text itself if it is nothing else.  Raises `ConfigError` for an object
    that there is not, or not with these arguments."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (ValueError, SyntaxError):
        return text.strip()
    return _meant(tree, text.strip())


def _meant(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Call(ast.Name(name), arguments, keywords):
            given = [_meant(each, ast.unparse(each)) for each in arguments]
            named = {each.arg: _meant(each.value, ast.unparse(each.value)) for each in keywords}
            return _object(name, given, named, text)
        case ast.List(parts) | ast.Tuple(parts):
            values = [_meant(each, ast.unparse(each)) for each in parts]
            return values if isinstance(node, ast.List) else tuple(values)
        case ast.Name("inf"):
            return math.inf
    try:
        return ast.literal_eval(node)
    except ValueError:
        return text


def _object(name: str, given: list[Any], named: dict[str | None, Any], text: str) -> Any:
    if name not in OBJECTS:
        raise ConfigError(f"{text!r}: there is no {name}; there are {', '.join(OBJECTS)}")
    try:
        return OBJECTS[name](*given, **named)  # pyright: ignore[reportCallIssue]
    except TypeError as error:
        raise ConfigError(f"{text!r}: {error}") from error


def option_of(text: str) -> tuple[str, Any]:
    """From `name=value`.  Raises `ConfigError`."""
    name, is_option, value = text.partition("=")
    if not (is_option and name.strip()):
        raise ConfigError(f"{text!r} is no option; write name=value")
    return name.strip(), value_of(value)


def pairs(owner: str, texts: Iterable[str], known: Collection[str] | None) -> dict[str, Any]:
    """From `name=value`s; any name will do if none are known.  Raises `ConfigError`."""
    options: dict[str, Any] = {}
    for text in texts:
        name, value = option_of(text)
        if known is not None and name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"{owner} has no option {name!r}; {takes}")
        if name in options:
            raise ConfigError(f"{name} is said twice, {options[name]!r} and {value!r}; drop one")
        options[name] = value
    return options


def options_for(
    text: str, name: str, rest: str, make: Callable[..., Any], known: Collection[str] | None
) -> dict[str, Any]:
    """What stands in `rest`, behind the name in a text, for what is made.  Raises `ConfigError`."""
    try:
        options = pairs(name, (each for each in split(rest) if each), known)
        lacking = [each.name for each in parameters_of(make) if is_required(each)]
        if missing := [each for each in lacking if each not in options and each in (known or ())]:
            takes = ", ".join(known or ())
            raise ConfigError(f"{name} lacks {', '.join(missing)}; it takes {takes}")
    except ConfigError as error:
        raise ConfigError(f"{text!r}: {error}") from error
    return options


def parameters_of(make: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those that have names."""
    found = inspect.signature(make).parameters.values()
    return [each for each in found if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]


def is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def takes_any(make: Callable[..., Any]) -> bool:
    """Whether it takes options of any name."""
    return any(
        each.kind is each.VAR_KEYWORD for each in inspect.signature(make).parameters.values()
    )


def spelled(name: str, make: Callable[..., Any], but: Collection[str] = ()) -> str:
    """How one writes it with all it takes, and what that is if nothing is said; functions, which
    cannot be written, are left out."""
    options = [
        f"{each.name}={'…' if is_required(each) else LONG.sub(_short, str(each.default))}"
        for each in parameters_of(make)
        if each.name not in but and not inspect.isfunction(each.default)
    ]
    return f"{name}:{', '.join(options)}" if options else name


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.3g}"
