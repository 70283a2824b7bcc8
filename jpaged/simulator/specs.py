"""Workloads, cost models, options and spaces as one writes them on a command line.

poisson:rate=4,num_requests=500,prompt_len=200      a function of `simulator.workload`
trace.jsonl    trace.csv:limit=500,too_long=cut     a file, for `from_trace`
poisson:…,client=chat,ttft=0.5 + agents:…           several together; whose they are, promises
roofline:model=llama-8b,gpu=H200                    constant:step=0.02,token=1e-4
costs.json                                          what `jpaged calibrate` wrote
chunk=64:1024:log    aging=0.0:300.0    n=1,2,4     where a policy's parameters may lie

Policies and routers are in `makers`.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jpaged.errors import ConfigError, RequestRejected
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.terms import Terms
from jpaged.simulator import workload
from jpaged.simulator.building import DEFAULTS
from jpaged.simulator.constant import Constant
from jpaged.simulator.draws import Make
from jpaged.simulator.grammar import (
    options_for,
    pairs,
    parameters_of,
    split,
    value_of,
)
from jpaged.simulator.roofline import OPTIONS as ROOFLINE_OPTIONS
from jpaged.simulator.roofline import Roofline
from jpaged.simulator.spaces import Choice, Range
from jpaged.simulator.table import FromTable

WORKLOADS: dict[str, Callable[..., Any]] = {
    "poisson": workload.poisson,
    "gamma": workload.gamma,
    "weibull": workload.weibull,
    "tenant": workload.tenant,
    "shared_prefix_tree": workload.shared_prefix_tree,
    "sessions": workload.sessions,
    "agents": workload.agents,
}
COST_MODELS: dict[str, Callable[..., CostModel]] = {"roofline": Roofline.of, "constant": Constant}
UNWRITTEN = ("path", "seed", "tree")  # of workloads: objects, and what others decide
TERMS = ("client", "ttft", "tpot", "deadline")
ASKED = (*TERMS, "priority", "foretold")  # what all requests of any workload may have in common
TOGETHER = re.compile(rf"\s\+\s|\+(?=(?:{'|'.join(WORKLOADS)}):)")
ENGINE_OPTIONS = (*DEFAULTS, "num_replicas")


def workload_of(text: str, max_len: int | None = None) -> Make:
    """The requests for a seed.  max_len: tokens that a request of a trace, or a session, may have,
    if the text says nothing else.  Raises `ConfigError`."""
    parts = [text] if Path(text).is_file() else TOGETHER.split(text)
    makes = [_workload(part.strip(), max_len) for part in parts]
    return makes[0] if len(makes) == 1 else lambda seed: workload.mix(*(m(seed) for m in makes))


def _workload(text: str, max_len: int | None) -> Make:
    path, _, rest = (text, "", "") if Path(text).is_file() else text.partition(":")
    is_trace = Path(path).is_file()
    if not is_trace and path not in WORKLOADS:
        raise ConfigError(_no_workload(path))
    make: Callable[..., Any] = workload.from_trace if is_trace else WORKLOADS[path]
    takes = [each.name for each in parameters_of(make) if each.name not in UNWRITTEN]
    options = options_for(text, path, rest, make, [*takes, *ASKED])
    is_told, options = options.pop("foretold", False), _asked(text, options)
    if max_len is not None and "max_len" in takes:
        options = {"max_len": max_len} | options
    tell = workload.foretold if is_told else iter
    if is_trace:
        requests = list(tell(make(path, **options)))
        return lambda seed: requests
    return lambda seed: list(tell(make(seed=seed, **options)))


def _asked(text: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with their terms as one."""
    terms = {name: options[name] for name in TERMS if name in options}
    if not terms:
        return options
    rest = {name: value for name, value in options.items() if name not in TERMS}
    if "client" in terms:
        terms["client"] = str(terms["client"])  # 1 is a name, too
    try:
        return rest | {"terms": Terms(**terms)}
    except RequestRejected as error:
        raise ConfigError(f"{text!r}: {error}") from error


def _no_workload(path: str) -> str:
    there = f"there are {', '.join(WORKLOADS)}, or a trace file"
    if path and Path(path).is_dir():
        return f"no workload {path!r}, which is a folder; {there}"
    is_path = "/" in path or Path(path).suffix
    return f"no workload {path!r}{f', nor such a file in {Path.cwd()}' if is_path else ''}; {there}"


def cost_model_of(text: str) -> CostModel:
    """Raises `ConfigError`."""
    if text.endswith(".json"):
        return FromTable.load(text)
    name, _, rest = text.partition(":")
    if name not in COST_MODELS:
        raise ConfigError(
            f"no cost model {name!r}; there are {', '.join(COST_MODELS)}, or a table.json"
        )
    make = COST_MODELS[name]
    more = ROOFLINE_OPTIONS if make == Roofline.of else ()
    known = [*(each.name for each in parameters_of(make)), *more]
    options = options_for(text, name, rest, make, known)
    try:
        return make(**options)
    except ConfigError as error:
        raise ConfigError(f"cost model {text!r}: {error}") from error


def options_of(texts: Iterable[str]) -> dict[str, Any]:
    """What engines are made with, from `name=value`s.  Raises `ConfigError`."""
    return pairs("an engine", texts, ENGINE_OPTIONS)


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
        return Choice(tuple(map(value_of, split(text))))
    low, high, *rest = text.split(":")
    if rest not in ([], ["log"]):
        raise ConfigError("a range is low:high or low:high:log")
    return Range(value_of(low), value_of(high), is_log=bool(rest))
