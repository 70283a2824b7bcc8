"""What `jpaged compare` and `jpaged search` are told alike: workloads, costs, options, a page."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jpaged.errors import ConfigError
from jpaged.scheduling.cost import CostModel
from jpaged.simulator.building import check_options
from jpaged.simulator.draws import Make
from jpaged.simulator.makers import router_of
from jpaged.simulator.routing import Router
from jpaged.simulator.specs import cost_model_of, options_of, workload_of


@dataclass(frozen=True)
class Setting:
    """options: of the engines.  max_len: tokens that a request may have there."""

    cost_model: CostModel
    options: dict[str, Any]
    max_len: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Setting":
        """Raises `ConfigError`, also for a page that could not be written in the end."""
        check_out(args.out)
        cost_model, options = cost_model_of(args.cost_model), options_of(args.option)
        engine = {name: value for name, value in options.items() if name != "num_replicas"}
        max_len = check_options(engine, cost_model).max_model_len
        assert max_len is not None
        return cls(cost_model, options, max_len)

    def workloads(self, texts: list[str]) -> dict[str, Make]:
        return {text: workload_of(text, self.max_len) for text in distinct("workload", texts)}

    def routers(self, texts: list[str]) -> dict[str, Router]:
        """Raises `ConfigError`, also where a router has nowhere to send anybody."""
        if texts and self.options.get("num_replicas", 1) == 1:
            raise ConfigError(
                f"router {texts[0]} has one replica to send all to; say how many there are: "
                "--option num_replicas=4"
            )
        return {text: router_of(text, self.cost_model) for text in distinct("router", texts)}


def check_clients(measures: Iterable[str], workloads: Mapping[str, Make]) -> None:
    """Raises `ConfigError` for measures, such as ttft_p99@chat, of those who ask for nothing."""
    wanted = {client for measure in measures if (client := measure.partition("@")[2])}
    if not wanted:
        return
    there = {each.terms.client for make in workloads.values() for each in make(0)}
    if missing := sorted(wanted - there):
        named = ", ".join(sorted(filter(None, there))) or "none; name them with client="
        raise ConfigError(f"no workload has a client {', '.join(missing)}; there are {named}")


def distinct(what: str, names: Iterable[str]) -> list[str]:
    """The names, without spaces around them.  Raises `ConfigError` where one is there twice."""
    found = [name.strip() for name in names]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ConfigError(f"{what} {', '.join(twice)} is named twice; drop one")
    return found


def check_out(path: str | None, flag: str = "--out") -> None:
    """Before hours of work, not after."""
    if path is None:
        return
    if Path(path).is_dir():
        raise ConfigError(f"{flag} {path} is a folder; name a file in it")
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder {Path(path).parent}; make it first")
