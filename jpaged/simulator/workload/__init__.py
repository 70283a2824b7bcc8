"""Requests and when they arrive.  A workload is data: whoever serves it decides what it costs.

    open loop     poisson, gamma, weibull, shared_prefix_tree; requests, without an end
    closed loop   sessions, agents
    together      tenant, tenants, mix; merge, without an end
    recorded      from_trace

`summary` says what is in one.
"""

from jpaged.simulator.lengths import Lengths
from jpaged.simulator.workload.arrivals import (
    gamma,
    gamma_gap,
    generate,
    poisson,
    poisson_arrivals,
    poisson_gap,
    requests,
    weibull,
    weibull_gap,
)
from jpaged.simulator.workload.foresight import foretold
from jpaged.simulator.workload.laws import (
    Empirical,
    Fixed,
    Geometric,
    Law,
    Pauses,
    Uniform,
    Zipf,
)
from jpaged.simulator.workload.prefixes import PrefixTree, shared_prefix_tree
from jpaged.simulator.workload.request import EOS, VOCAB, TimedRequest, Workload
from jpaged.simulator.workload.sessions import agents, sessions
from jpaged.simulator.workload.summary import Summary, summary
from jpaged.simulator.workload.tenants import Tenant, merge, mix, tenant, tenants
from jpaged.simulator.workload.tokens import Blocks, Passage, Tokens
from jpaged.simulator.workload.traces import from_trace

__all__ = [
    "EOS",
    "foretold",
    "VOCAB",
    "Blocks",
    "Empirical",
    "Fixed",
    "Geometric",
    "Law",
    "Lengths",
    "Passage",
    "Pauses",
    "PrefixTree",
    "Summary",
    "Tenant",
    "TimedRequest",
    "Tokens",
    "Uniform",
    "Workload",
    "Zipf",
    "agents",
    "from_trace",
    "gamma",
    "gamma_gap",
    "generate",
    "merge",
    "mix",
    "poisson",
    "poisson_arrivals",
    "poisson_gap",
    "requests",
    "sessions",
    "shared_prefix_tree",
    "summary",
    "tenant",
    "tenants",
    "weibull",
    "weibull_gap",
]
