"""Policies and routers as one writes them on a command line.

sarathi    sarathi:chunk=256              a policy of ours
srpt:predictor=Noisy(0.5),aging=2         see `grammar`
prefix_affinity:balance=2.0               a router of ours
mine.py:MyPolicy:chunk=256                one of your own, see `own`; package.module:MyPolicy, too
"""

import difflib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jpaged import policies
from jpaged.errors import ConfigError
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.policy import Policy
from jpaged.simulator import own, routers
from jpaged.simulator.grammar import options_for, parameters_of, split, takes_any
from jpaged.simulator.routing import Router

COPYING = "token_seconds"  # what routers that move sequences have to know, and cost models may


def named(text: str) -> list[str]:
    """Of several with commas between: `fcfs,sarathi:chunk=64,aging=3,srpt` are three."""
    found: list[str] = []
    for piece in split(text):
        if found and re.match(r"\s*[A-Za-z_]\w*\s*=", piece):
            found[-1] += f",{piece}"
        else:
            found.append(piece)
    return [each.strip() for each in found]


def policy_maker(text: str) -> Callable[..., Policy]:
    """What makes a policy, with the options that the text gives it.  Raises `ConfigError`."""
    return _maker(text, policies.NAMES, Policy)


def policy_of(text: str) -> Policy:
    """Raises `ConfigError`."""
    make = policy_maker(text)
    return _one(text, lambda: policies.resolve(make()))


def router_of(text: str, cost_model: CostModel) -> Router:
    """Where it copies pages and the text does not say how fast, they move as the cost model says.
    Raises `ConfigError`."""
    make, seconds = _maker(text, routers.NAMES, Router), getattr(cost_model, COPYING, None)
    copies = COPYING in [each.name for each in parameters_of(make)]
    if copies and seconds is not None and COPYING not in getattr(make, "keywords", {}):
        make = partial(make, **{COPYING: seconds})
    return _one(text, make)


def _maker(text: str, known: Mapping[str, Any], base: type) -> Callable[..., Any]:
    name, _, rest = text.partition(":")
    if name in known:
        make = known[name]
    else:
        inner, _, more = rest.partition(":")
        if not own.looks_own(name, inner):
            raise ConfigError(_unknown(name, known, own.KINDS[base]))
        make, rest, name = own.find(name, inner, base), more, inner
    takes = None if takes_any(make) else [each.name for each in parameters_of(make)]
    options = options_for(text, name, rest, make, takes)
    return partial(make, **options) if options else make


def _one(text: str, make: Callable[..., Any]) -> Any:
    try:
        return make()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{text!r}: {error}") from error


def _unknown(name: str, known: Mapping[str, Any], what: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"no {what} {name!r}{hint}; there are {', '.join(known)}, and your own: "
        f"mine.py:My{what.title()}"
    )
