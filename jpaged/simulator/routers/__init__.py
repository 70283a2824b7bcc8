"""Where requests go, and go on: one idea a file.  A new one needs no change anywhere else."""

from jpaged.simulator.routers.disaggregated import Disaggregated
from jpaged.simulator.routers.freest import Freest, Rebalancing
from jpaged.simulator.routers.least_loaded import LeastLoaded
from jpaged.simulator.routers.prefix_affinity import PrefixAffinity
from jpaged.simulator.routers.round_robin import RoundRobin
from jpaged.simulator.routing import Router

NAMES: dict[str, type[Router]] = {
    "round_robin": RoundRobin,
    "least_loaded": LeastLoaded,
    "freest": Freest,
    "rebalancing": Rebalancing,
    "prefix_affinity": PrefixAffinity,
    "disaggregated": Disaggregated,
}

__all__ = [
    "NAMES",
    "Disaggregated",
    "Freest",
    "LeastLoaded",
    "PrefixAffinity",
    "Rebalancing",
    "RoundRobin",
]
