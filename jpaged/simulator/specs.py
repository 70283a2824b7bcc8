"""Workloads and cost models as one writes them on a command line.

poisson:rate=4,num_requests=500,prompt_len=200      a function of `simulator.workload`
trace.jsonl                                         a file, the same for every seed
roofline:model=llama-8b,gpu=H200                    constant:step=0.02,token=1e-4
costs.json                                          what `jpaged calibrate` wrote
"""

import ast
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import CostModel
from jpaged.simulator import workload
from jpaged.simulator.constant import Constant
from jpaged.simulator.roofline import Roofline
from jpaged.simulator.table import FromTable
from jpaged.simulator.workload import TimedRequest

WORKLOADS: dict[str, Callable[..., Iterable[TimedRequest]]] = {
    "poisson": workload.poisson,
    "gamma": workload.gamma,
    "weibull": workload.weibull,
    "shared_prefix_tree": workload.shared_prefix_tree,
    "sessions": workload.sessions,
    "agents": workload.agents,
}
COST_MODELS: dict[str, Callable[..., CostModel]] = {"roofline": Roofline.of, "constant": Constant}


def workload_of(text: str) -> Callable[[int], Iterable[TimedRequest]]:
    """The requests for a seed.  Raises `ConfigError`."""
    if Path(text).exists():
        requests = workload.from_trace(text)
        return lambda seed: requests
    make = _named(text, WORKLOADS, "workload", "a trace file")
    return lambda seed: make(seed=seed)


def cost_model_of(text: str) -> CostModel:
    """Raises `ConfigError`."""
    if text.endswith(".json"):
        return FromTable.load(text)
    return _named(text, COST_MODELS, "cost model", "a table.json")()


def _named(text: str, known: dict[str, Any], what: str, other: str) -> Callable[..., Any]:
    name, _, rest = text.partition(":")
    if name not in known:
        raise ConfigError(f"no {what} {name!r}; there are {', '.join(known)}, or {other}")
    options = dict(option_of(each) for each in rest.split(",") if each)
    signature = inspect.signature(known[name])
    try:
        signature.bind(**options)
    except TypeError as error:
        names = ", ".join(signature.parameters)
        raise ConfigError(f"{text!r}: {error}; {name} takes {names}") from error
    return partial(known[name], **options)


def option_of(text: str) -> tuple[str, Any]:
    """`name=value`, the value a number where it is one.  Raises `ConfigError`."""
    name, is_option, value = text.partition("=")
    if not is_option:
        raise ConfigError(f"{text!r} is no option; write name=value")
    try:
        return name.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip(), value
