"""Workloads, cost models, options and spaces as one writes them on a command line.

poisson:rate=4,num_requests=500,prompt_len=200      a function of `simulator.workload`
trace.jsonl    trace.csv:limit=500,too_long=cut     a file, for `from_trace`
roofline:model=llama-8b,gpu=H200                    constant:step=0.02,token=1e-4
costs.json                                          what `jpaged calibrate` wrote
chunk=64:1024:log    aging=0.0:300.0    n=1,2,4     where a policy's parameters may lie
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import CostModel
from jpaged.simulator import workload
from jpaged.simulator.building import DEFAULTS
from jpaged.simulator.constant import Constant
from jpaged.simulator.draws import Make
from jpaged.simulator.roofline import OPTIONS as ROOFLINE_OPTIONS
from jpaged.simulator.roofline import Roofline
from jpaged.simulator.spaces import Choice, Range
from jpaged.simulator.table import FromTable

WORKLOADS: dict[str, Callable[..., Any]] = {
    "poisson": workload.poisson,
    "gamma": workload.gamma,
    "weibull": workload.weibull,
    "shared_prefix_tree": workload.shared_prefix_tree,
    "sessions": workload.sessions,
    "agents": workload.agents,
}
COST_MODELS: dict[str, Callable[..., CostModel]] = {"roofline": Roofline.of, "constant": Constant}
UNWRITTEN = ("path", "seed", "tree", "terms", "params")  # objects, and what others decide
ENGINE_OPTIONS = (*DEFAULTS, "num_replicas")
COMMAS = re.compile(r",(?![^\[(]*[\])])")  # but those in brackets


def workload_of(text: str, max_len: int | None = None) -> Make:
    """The requests for a seed.  max_len: tokens that a request of a trace may have, if the text
    says nothing else.  Raises `ConfigError`."""
    path, _, rest = (text, "", "") if Path(text).is_file() else text.partition(":")
    if Path(path).is_file():
        options: dict[str, Any] = {"max_len": max_len} | _options(
            text, rest, path, workload.from_trace
        )
        requests = workload.from_trace(path, **options)
        return lambda seed: requests
    make = _named(text, WORKLOADS, "workload", "a trace file")
    return lambda seed: make(seed=seed)


def cost_model_of(text: str) -> CostModel:
    """Raises `ConfigError`."""
    if text.endswith(".json"):
        return FromTable.load(text)
    make = _named(text, COST_MODELS, "cost model", "a table.json")
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"cost model {text!r}: {error}") from error


def options_of(texts: Iterable[str]) -> dict[str, Any]:
    """What engines are made with, from `name=value`s.  Raises `ConfigError`."""
    return _pairs("an engine", texts, ENGINE_OPTIONS)


def space_of(texts: Iterable[str]) -> dict[str, Range | Choice]:
    """From `name=low:high`, `name=low:high:log` and `name=this,that`.  Raises `ConfigError`."""
    space: dict[str, Range | Choice] = {}
    for text in texts:
        name, is_domain, domain = text.partition("=")
        if not (name.strip() and is_domain and domain.strip()):
            raise ConfigError(
                f"{text!r} is no parameter's range; write name=low:high, name=low:high:log or "
                "name=this,that"
            )
        if name in space:
            raise ConfigError(f"{name} has two ranges, of which {text!r} is the second; drop one")
        try:
            space[name.strip()] = _domain(domain)
        except ConfigError as error:
            raise ConfigError(f"{text!r}: {error}") from error
    return space


def _domain(text: str) -> Range | Choice:
    if ":" not in text:
        return Choice(tuple(map(_value, COMMAS.split(text))))
    low, high, *rest = text.split(":")
    if rest not in ([], ["log"]):
        raise ConfigError("a range is low:high or low:high:log")
    return Range(_value(low), _value(high), is_log=bool(rest))


def option_of(text: str) -> tuple[str, Any]:
    """`name=value`, the value a number where it is one.  Raises `ConfigError`."""
    name, is_option, value = text.partition("=")
    if not (is_option and name.strip()):
        raise ConfigError(f"{text!r} is no option; write name=value")
    return name.strip(), _value(value)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def _named(text: str, known: Mapping[str, Any], what: str, other: str) -> Callable[..., Any]:
    name, _, rest = text.partition(":")
    if name not in known:
        raise ConfigError(f"no {what} {name!r}; there are {', '.join(known)}, or {other}")
    return partial(known[name], **_options(text, rest, name, known[name]))


def _options(text: str, rest: str, name: str, make: Callable[..., Any]) -> dict[str, Any]:
    """Those behind the colon of a text, which name what is made."""
    known = _writable(make)
    try:
        options = _pairs(name, (each for each in COMMAS.split(rest) if each), known)
        parameters = inspect.signature(make).parameters.values()
        lacking = [
            each.name for each in parameters if each.name in known and each.default is each.empty
        ]
        if missing := [each for each in lacking if each not in options]:
            raise ConfigError(f"{name} lacks {', '.join(missing)}; it takes {', '.join(known)}")
    except ConfigError as error:
        raise ConfigError(f"{text!r}: {error}") from error
    return options


def _pairs(owner: str, texts: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in texts:
        name, value = option_of(text)
        if name not in known:
            raise ConfigError(f"{owner} has no option {name!r}; it takes {', '.join(known)}")
        if name in options:
            raise ConfigError(f"{name} is said twice, {options[name]!r} and {value!r}; drop one")
        options[name] = value
    return options


def _writable(make: Callable[..., Any]) -> list[str]:
    """The names of what it takes, but objects."""
    parameters = inspect.signature(make).parameters.values()
    names = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    more = ROOFLINE_OPTIONS if make == Roofline.of else ()
    return [each for each in (*names, *more) if each not in UNWRITTEN]
