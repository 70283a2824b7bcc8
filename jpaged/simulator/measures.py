"""What a simulation is judged by: the numbers of its summary, and bounds to them."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from jpaged.errors import ConfigError
from jpaged.simulator.result import Result

MEASURES = tuple(Result().summary())
OF_ALL = {"num_refused", "seconds", "recompute_tax", "padding"}  # of no client alone
# of all others less is better
MORE_IS_BETTER = {
    "num_requests",
    "requests_per_second",
    "tokens_per_second",
    "goodput",
    "hit_rate",
}
BOUND = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|<|>)\s*(\S+)\s*")


def check_measures(names: Iterable[str]) -> None:
    """Raises `ConfigError` with those that no summary has; `ttft_p99@chat` is of one client."""
    unknown = []
    for name in names:
        measure, is_of_one, client = name.partition("@")
        if measure not in MEASURES or (is_of_one and (not client or measure in OF_ALL)):
            unknown.append(name)
    if unknown:
        raise ConfigError(
            f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}; and of one client, "
            f"as in ttft_p99@chat, all but {', '.join(sorted(OF_ALL))}"
        )


def is_more_better(measure: str) -> bool:
    return measure.partition("@")[0] in MORE_IS_BETTER


def summary_with_clients(result: Result) -> dict[str, float]:
    """The summary, and where there are several clients what it would say of each of them alone."""
    found = result.summary()
    clients = sorted({each.client for each in result.ended})
    for client in clients if len(clients) > 1 else ():
        mine = Result([each for each in result.ended if each.client == client]).summary()
        found |= {f"{name}@{client}": mine[name] for name in MEASURES if name not in OF_ALL}
    return found


@dataclass(frozen=True)
class Bound:
    """What a measure must keep to: `tpot_p99<0.05`, or with <=, > or >=."""

    measure: str
    sign: str
    limit: float

    @classmethod
    def of(cls, text: str) -> "Bound":
        """Raises `ConfigError` for what is none."""
        match = BOUND.fullmatch(text)
        try:
            measure, sign, limit = match.groups() if match else ("", "", "nan")
            bound = cls(measure, sign, float(limit))
        except ValueError:
            bound = cls("", "", math.nan)
        if math.isnan(bound.limit):
            raise ConfigError(f"{text!r} is no constraint; write one like tpot_p99<0.05")
        check_measures([bound.measure])
        return bound

    def __str__(self) -> str:
        return f"{self.measure}{self.sign}{self.limit:g}"

    def holds(self, value: float) -> bool:
        return not self.excess(value)

    def excess(self, value: float) -> float:
        """How far it is overstepped, as a share of the limit; 0 if it is not."""
        if math.isnan(value):
            return math.inf
        over = self.limit - value if self.sign.startswith(">") else value - self.limit
        if over < 0 or (over == 0 and self.sign.endswith("=")):
            return 0.0
        return max(over / abs(self.limit), 1e-9) if self.limit else max(over, 1e-9)
